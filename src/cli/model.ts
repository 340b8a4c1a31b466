/** `model inspect` and `model prepare`: what a file holds, and its prepared form made ahead of the first start. */
import { stat } from 'node:fs/promises';
import { resolveRuntimeConfig, type Surroundings } from '../config/load.js';
import type { RuntimeConfig, RuntimeOptions } from '../config/schema.js';
import { messageOf, ServingError } from '../errors.js';
import { type OnnxConstantSummary, type OnnxSummary, readOnnxFile } from '../model/onnx-file.js';
import { unpreparableReason, weightBytes } from '../model/prepared-forms.js';
import type { PreparedModel, PrepareRequest } from '../model/prepared-model.js';
import { explainForeignFormat } from '../repository/foreign-format.js';
import { findAllModels, findModels, type ModelEntry, requirePlace } from '../repository/layout.js';
import { alignedText, durationText } from './table-text.js';

const shownConstants = 10;

/**
 * What a model file says about itself, as text or as JSON.
 *
 * @param path a model file, or a directory of which the wanted version is taken
 * @throws ServingError `SRV_FOREIGN_FORMAT`, `SRV_MODEL_INVALID`, `SRV_MODEL_NOT_FOUND`, `SRV_IO`
 */
export async function inspectModel(path: string, options: { readonly json: boolean }): Promise<string> {
  const file = await modelFileOf(path);
  const summary = readOnnxFile(file);
  const preparedForm = expectedForm(summary);
  if (options.json) return `${JSON.stringify({ file, ...summary, preparedForm }, null, 2)}\n`;
  return inspectText(file, summary, preparedForm);
}

/** The model file at a place: itself, or the wanted version in a directory. */
export async function modelFileOf(path: string): Promise<string> {
  await requirePlace(path);
  const isDirectory = await stat(path).then(
    (found) => found.isDirectory(),
    (cause: unknown) => {
      throw new ServingError('SRV_IO', `${path} cannot be read: ${messageOf(cause)}.`, { cause });
    },
  );
  if (!isDirectory) {
    await explainForeignFormat(path);
    return path;
  }
  const wanted = (await findModels(path)).find(
    (entry): entry is ModelEntry => entry.error === undefined && entry.wanted,
  );
  if (!wanted) throw new ServingError('SRV_MODEL_NOT_FOUND', `${path} holds no version that can be served.`);
  return wanted.modelFile;
}

/** What the prepared form will be; only a trial run decides it for good. */
function expectedForm(summary: OnnxSummary): {
  readonly form: 'original' | 'prepared';
  readonly reason: string;
} {
  const reason = unpreparableReason(summary, {
    trial: { ran: true },
    batching: { rowsIndependent: false, reason: '' },
    samples: [],
  });
  if (reason !== undefined) return { form: 'original', reason };
  return {
    form: 'prepared',
    reason: `${sizeText(weightBytes(summary))} of weights go to a file that all instances map, if a trial run gives the same results`,
  };
}

function inspectText(
  file: string,
  summary: OnnxSummary,
  preparedForm: { readonly form: string; readonly reason: string },
): string {
  const opsets = Object.entries(summary.opsets).map(([domain, version]) => `${domain} ${version}`);
  const operators = Object.entries(summary.operators).sort((a, b) => b[1] - a[1]);
  const constants = [...summary.constants].sort((a, b) => b.bytes - a.bytes);
  const total = constants.reduce((sum, { bytes }) => sum + bytes, 0);
  const facts = [
    ['file', file],
    ['size', sizeText(summary.fileBytes)],
    ['graph', summary.graphName || '-'],
    ['producer', summary.producer || '-'],
    ['IR version', String(summary.irVersion)],
    ['opsets', opsets.join(', ') || '-'],
    ['operators', operators.map(([name, count]) => `${name} ${count}`).join(', ') || '-'],
    ['prepared form', `${preparedForm.form}: ${preparedForm.reason}`],
  ];
  const parts = [
    alignedText(facts),
    section('Inputs', summary.inputs.map(valueCells)),
    section('Outputs', summary.outputs.map(valueCells)),
    section(
      `Initialisers by size: ${constants.length}, together ${sizeText(total)}`,
      constants.slice(0, shownConstants).map(constantCells),
    ),
  ];
  if (summary.optionalInputs.length > 0) {
    parts.push(
      `Inputs with a value of their own, which no request gives: ${summary.optionalInputs.join(', ')}`,
    );
  }
  if (constants.length > shownConstants)
    parts.push(`  ... and ${constants.length - shownConstants} smaller ones`);
  return `${parts.join('\n\n')}\n`;
}

function section(title: string, rows: readonly (readonly string[])[]): string {
  return rows.length === 0 ? `${title}\n  none` : `${title}\n${alignedText(rows.map((row) => ['', ...row]))}`;
}

function valueCells(value: OnnxSummary['inputs'][number]): string[] {
  const type = value.kind === 'tensor' ? (value.datatype ?? `element type ${value.elementType}`) : value.kind;
  const shape = value.shape?.map((size, axis) => (size < 0 ? value.dimNames[axis] || '?' : String(size)));
  const note = value.kind === 'tensor' && value.datatype ? [] : ['not served: no protocol datatype'];
  return [value.name, type, shape ? `[${shape.join(',')}]` : '[any rank]', ...note];
}

function constantCells(constant: OnnxConstantSummary): string[] {
  return [
    constant.name,
    constant.datatype ?? `element type ${constant.elementType}`,
    `[${constant.shape.join(',')}]`,
    sizeText(constant.bytes),
    ...(constant.externalFile === undefined ? [] : [`in ${constant.externalFile}`]),
  ];
}

/** Bytes as people read them. */
export function sizeText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(1)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
}

/** The part of the preparer that `model prepare` uses. */
export interface ModelPreparer {
  prepare(request: PrepareRequest): Promise<PreparedModel>;
  close(): Promise<void>;
}

/** What `model prepare` reaches the world through. */
export interface PrepareWorld {
  readonly surroundings: Surroundings;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  openPreparer(config: RuntimeConfig): ModelPreparer;
}

/**
 * Makes the prepared form of every model at the given places, so that a later start finds it in the cache.
 *
 * @returns the number of models that could not be prepared
 * @throws ServingError `SRV_BAD_CONFIG` for bad options
 */
export async function prepareModels(
  paths: readonly string[],
  options: Pick<RuntimeOptions, 'cacheDir' | 'cacheBytes' | 'prepareTimeoutMs'>,
  world: PrepareWorld,
): Promise<number> {
  const config = resolveRuntimeConfig(options, world.surroundings);
  const entries = await entriesAt(paths);
  const preparer = world.openPreparer(config);
  let failures = 0;
  try {
    for (const entry of entries) {
      if (entry.error === undefined && !entry.wanted) continue;
      const startedAt = performance.now();
      try {
        if (entry.error) throw entry.error;
        const prepared = await preparer.prepare(requestOf(entry));
        const took = durationText(performance.now() - startedAt);
        const how = prepared.cached ? 'was in the cache' : `took ${took}`;
        world.stdout.write(`${entry.name}: ${prepared.form} (${prepared.formReason}), ${how}\n`);
      } catch (error) {
        failures++;
        world.stderr.write(`${entry.name}: failed: ${messageOf(error)}\n`);
      }
    }
  } finally {
    await preparer.close();
  }
  return failures;
}

/** A directory that is no model itself is a repository. */
async function entriesAt(paths: readonly string[]): ReturnType<typeof findAllModels> {
  const found = await Promise.all(
    paths.map(async (path) => {
      const entries = await findAllModels({ models: [{ path }] });
      const isNoModel = entries[0]?.error?.code === 'SRV_MODEL_NOT_FOUND';
      const isDirectory = isNoModel && (await stat(path)).isDirectory();
      return isDirectory ? findAllModels({ models: [], modelRepository: path }) : entries;
    }),
  );
  return found.flat();
}

function requestOf({ modelFile, settings }: ModelEntry): PrepareRequest {
  return {
    path: modelFile,
    ...(settings.prepacking ? { prepacking: settings.prepacking } : {}),
    ...(settings.prepare === 'off' ? { prepared: 'off' } : {}),
  };
}
