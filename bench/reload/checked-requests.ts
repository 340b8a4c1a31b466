import { writeFile } from 'node:fs/promises';
import type { RequestBody } from '../../src/loadtest/request-body.js';
import type { Answering } from './known-answers.js';

/** JSON requests of one row to a model with one output of one FP32, and what they are answered. */
export interface CheckedRequests {
  readonly model: string;
  readonly answering: Answering;
  /** Texts of the bodies. */
  readonly bodies: readonly string[];
  /** The answers of the network without a shift, one a body. */
  readonly bases: readonly number[];
}

/** Requests of bodies that are JSON. */
export function checkedRequests(
  model: string,
  answering: Answering,
  bodies: readonly RequestBody[],
  bases: readonly number[],
): CheckedRequests {
  return { model, answering, bodies: bodies.map(({ bytes }) => bytes.toString()), bases };
}

/** Writes them for the generator. */
export async function writeRequests(file: string, requests: CheckedRequests): Promise<string> {
  await writeFile(file, JSON.stringify(requests));
  return file;
}
