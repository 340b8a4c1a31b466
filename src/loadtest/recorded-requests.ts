import { readFile } from 'node:fs/promises';
import { messageOf, ServingError } from '../errors.js';
import type { TensorMap } from '../tensor/tensor.js';
import { tensorsOfBody } from './request-tensors.js';

/** One line of a recording: the body as it was and what it says. */
export interface RecordedRequest {
  readonly text: string;
  readonly tensors: TensorMap;
}

/**
 * Reads recorded requests: Open Inference Protocol JSON bodies, one a line; empty lines are skipped.
 *
 * @throws SRV_BAD_CONFIG with the line's number when the file cannot be read or a line is no such body
 */
export async function readRecordedRequests(path: string): Promise<RecordedRequest[]> {
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (cause) {
    throw new ServingError('SRV_BAD_CONFIG', `--input ${path}: ${messageOf(cause)}`, { cause });
  }
  const requests = content.split('\n').flatMap((line, i) => {
    const text = line.trim();
    if (text === '') return [];
    try {
      return [{ text, tensors: tensorsOfBody(text) }];
    } catch (cause) {
      throw new ServingError('SRV_BAD_CONFIG', `--input ${path}, line ${i + 1}: ${messageOf(cause)}`, {
        cause,
      });
    }
  });
  if (requests.length === 0) throw new ServingError('SRV_BAD_CONFIG', `--input ${path}: holds no request`);
  return requests;
}
