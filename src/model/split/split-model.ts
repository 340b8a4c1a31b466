/** `model split`: a model with embedding tables becomes a network, tables, and stages that say how they meet. */
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { EmbeddingSettings } from '../../config/embedding-settings.js';
import { messageOf, ServingError } from '../../errors.js';
import { makeDirectory } from '../../make-directory.js';
import { isAlive, processIdentity } from '../../process-identity.js';
import { ByteSource } from '../../protobuf-wire.js';
import { readOnnxFile } from '../onnx-file.js';
import { type DensePlan, denseModelFile, planDenseModel, writeDenseModel } from './dense-model.js';
import { type FoundTable, findEmbeddings, tensorLabel } from './find-embeddings.js';
import { type ProofResult, type ProvedStage, proveSplit } from './prove-split.js';
import type { SplitOptions, SplitTable } from './split-options.js';
import { type OpenTable, TableStep, withDirectoryNames } from './split-tables.js';
import type { SplitTools } from './split-tools.js';
import { lookupOf } from './stage-rows.js';
import { settingsWithStages, stageOf } from './stages-of.js';
import { readGraph, type WireGraph } from './wire-graph.js';

/** What a split made. */
export interface SplitReport {
  readonly directory: string;
  readonly tables: readonly SplitTable[];
  /** The stages as model.json has them. */
  readonly stages: readonly EmbeddingSettings[];
  /** Bytes of the model's files before, and of the network's after. */
  readonly bytes: { readonly before: number; readonly after: number };
  readonly proof: ProofResult;
  readonly notices: readonly string[];
}

/**
 * Splits a model. Everything is made beside the directory and renamed into place at the end: a split that fails or is
 * cut off leaves nothing there.
 *
 * @throws SRV_MODEL_UNSUPPORTED when the model cannot be split, naming the nodes; SRV_MODEL_INVALID; SRV_BAD_CONFIG;
 * SRV_TABLE_MISMATCH when a reused table does not fit; SRV_INTERNAL when the results differ; SRV_IO; SRV_CANCELLED
 */
export async function splitModel(options: SplitOptions, tools: SplitTools): Promise<SplitReport> {
  const directory = resolve(options.directory);
  await refuseFull(directory);
  const place = `.${basename(directory)}.split-`;
  await removeLeftovers(dirname(directory), place);
  const work = join(dirname(directory), `${place}${processIdentity(process.pid)}`);
  const modelFile = resolve(options.modelFile);
  const source = openSource(modelFile);
  try {
    const summary = readOnnxFile(modelFile);
    const graph = readGraph(source, modelFile);
    const tables = findEmbeddings(source, graph, modelFile, options);
    makeDirectory(dirname(work));
    await mkdir(work);
    const split = new Split({ ...options, directory, modelFile }, tools, work, graph, tables);
    const report = await split.make(source, summary);
    await rename(work, directory).catch((error: unknown) => {
      throw new ServingError('SRV_IO', `${directory} cannot be made: ${messageOf(error)}`, { cause: error });
    });
    return report;
  } catch (error) {
    if (!options.signal?.aborted) throw error;
    throw new ServingError('SRV_CANCELLED', `${modelFile}: the split was withdrawn`, { cause: error });
  } finally {
    source.close();
    await rm(work, { recursive: true, force: true });
  }
}

function openSource(modelFile: string): ByteSource {
  try {
    return ByteSource.ofFile(modelFile);
  } catch (error) {
    throw new ServingError('SRV_IO', `${modelFile}: the model file cannot be opened: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

async function refuseFull(directory: string): Promise<void> {
  const entries = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new ServingError('SRV_IO', `${directory} cannot be made: ${error.message}`, { cause: error });
  });
  if (entries.length === 0) return;
  throw new ServingError(
    'SRV_BAD_CONFIG',
    `${directory} is there and not empty; give --output a new directory, so that nothing is mixed`,
  );
}

/** What splits that were killed left beside the directory. */
async function removeLeftovers(parent: string, prefix: string): Promise<void> {
  const entries = await readdir(parent).catch(() => []);
  for (const entry of entries) {
    if (!entry.startsWith(prefix) || isAlive(entry.slice(prefix.length))) continue;
    await rm(join(parent, entry), { recursive: true, force: true });
  }
}

/** One split under way: the steps share what it is made of. */
class Split {
  readonly #options: SplitOptions;
  readonly #tools: SplitTools;
  readonly #work: string;
  readonly #graph: WireGraph;
  readonly #tables: readonly FoundTable[];

  constructor(
    options: SplitOptions,
    tools: SplitTools,
    work: string,
    graph: WireGraph,
    tables: readonly FoundTable[],
  ) {
    this.#options = options;
    this.#tools = tools;
    this.#work = work;
    this.#graph = graph;
    this.#tables = tables;
  }

  async make(source: ByteSource, summary: ReturnType<typeof readOnnxFile>): Promise<SplitReport> {
    const { modelFile, directory, signal, onStep } = this.#options;
    const plan = planDenseModel(this.#graph, this.#tables);
    onStep?.(
      `writing the network without ${this.#tables.map(({ tensor }) => tensorLabel(tensor)).join(', ')}`,
    );
    await writeDenseModel(source, modelFile, this.#graph, this.#tables, plan, this.#work, signal);
    const opened: OpenTable[] = [];
    try {
      const tables = new TableStep(this.#options, this.#tools, this.#work, this.#tables.length > 1);
      for (const [found, name] of withDirectoryNames(this.#tables)) {
        opened.push(await tables.open(found, name));
      }
      onStep?.('running the original and the split model on random ids');
      const proof = await this.#prove(summary, plan, opened);
      const stages = opened.flatMap(({ found, place }) =>
        found.cuts.map((cut) => stageOf(this.#graph, cut, place)),
      );
      const old = await oldSettings(modelFile);
      const { text, notices } = settingsWithStages(old, stages, plan.inputs, {
        from: dirname(modelFile),
        to: directory,
      });
      await writeFile(join(this.#work, 'model.json'), text);
      const externals = new Set(summary.constants.flatMap(({ externalFile }) => externalFile ?? []));
      const before = [modelFile, ...[...externals].map((file) => join(dirname(modelFile), file))];
      const after = (await readdir(this.#work)).filter((name) => name.startsWith(denseModelFile));
      return {
        directory,
        tables: opened.map(({ report }) => report),
        stages: (JSON.parse(text) as { embeddings: EmbeddingSettings[] }).embeddings.slice(-stages.length),
        bytes: {
          before: await bytesOf(before),
          after: await bytesOf(after.map((name) => join(this.#work, name))),
        },
        proof,
        notices,
      };
    } finally {
      for (const { matrix, table } of opened) {
        matrix.close();
        table.close();
      }
    }
  }

  #prove(
    summary: ReturnType<typeof readOnnxFile>,
    plan: DensePlan,
    opened: readonly OpenTable[],
  ): Promise<ProofResult> {
    const stages = opened.flatMap(({ found, matrix, table, place, isExact }) =>
      found.cuts.map(
        (cut): ProvedStage => ({
          settings: stageOf(this.#graph, cut, place),
          rows: matrix.rows,
          targetShape: cut.input.shape.map((size) => (typeof size === 'number' ? size : -1)),
          ...(isExact ? { lookup: table } : { lookup: lookupOf(matrix), stored: table }),
        }),
      ),
    );
    return proveSplit({
      original: this.#options.modelFile,
      summary,
      dense: join(this.#work, denseModelFile),
      removedInputs: plan.inputs,
      stages,
      memoryBytes: this.#options.memoryBytes,
      signal: this.#options.signal,
    });
  }
}

async function oldSettings(modelFile: string): Promise<{ text: string; file: string } | undefined> {
  const directory = dirname(modelFile);
  // In <name>/<version>/model.onnx the settings lie beside the versions.
  const places = /^\d+$/.test(basename(directory)) ? [directory, dirname(directory)] : [directory];
  for (const place of places) {
    const file = join(place, 'model.json');
    const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw new ServingError('SRV_IO', `${file} cannot be read: ${error.message}`, { cause: error });
    });
    if (text !== undefined) return { text, file };
  }
  return undefined;
}

async function bytesOf(files: readonly string[]): Promise<number> {
  const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}
