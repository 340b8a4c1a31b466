/**
 * The body of the prepare process: it validates, tries and prepares one model at a time, so that a model that
 * crashes the engine ends this process and never the server. It stays between models (6 ms a model against 363 ms
 * for a process each) and ends when its parent does.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import type { Tensor as EngineTensor, InferenceSession } from 'onnxruntime-node';
import { errorToData, messageOf } from '../errors.js';
import { hashFile } from '../native/binding.js';
import { processIdentity } from '../process-identity.js';
import { datatypeOfEngine, fixedDatatypes } from '../tensor/datatype.js';
import type { Tensor, TensorMap } from '../tensor/tensor.js';
import { baseSessionExtra, type Engine, type EngineSession, type EngineValue } from './engine-session.js';
import { MeasuredStructures } from './measured-structures.js';
import type {
  PrepareProcessOptions,
  PrepareReply,
  PrepareTask,
  RunModelReply,
  RunModelResult,
  RunModelTask,
} from './prepare-messages.js';
import { type CachedModel, prepareModel } from './prepare-model.js';
import { PreparedCache } from './prepared-cache.js';

type EngineModule = typeof import('onnxruntime-node');

function engineOf({ InferenceSession: Session, Tensor: EngineTensorClass }: EngineModule): Engine {
  const toEngine = (tensor: Tensor): EngineTensor => {
    const type = tensor.datatype === 'BYTES' ? 'string' : fixedDatatypes[tensor.datatype].engine;
    // The engine's typings list each type apart; its constructor takes any pair of name and matching array.
    return new EngineTensorClass(type as 'float32', tensor.data as Float32Array, tensor.shape);
  };
  return {
    async open(model, options = {}) {
      const sessionOptions: InferenceSession.SessionOptions = {
        intraOpNumThreads: 1,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        graphOptimizationLevel: options.unoptimized ? 'disabled' : 'all',
        // Level 3: writing always warns that the file is for this hardware, which the cache key takes care of.
        ...(options.optimizedFile
          ? { optimizedModelFilePath: options.optimizedFile, logSeverityLevel: 3 }
          : {}),
        extra: { ...options.extra },
      };
      const session = await (typeof model === 'string'
        ? Session.create(model, sessionOptions)
        : Session.create(model, sessionOptions));
      return sessionOf(session, toEngine);
    },
  };
}

function sessionOf(session: InferenceSession, toEngine: (tensor: Tensor) => EngineTensor): EngineSession {
  return {
    inputs: session.inputMetadata.map(engineValue),
    outputs: session.outputMetadata.map(engineValue),
    async run(inputs, outputs) {
      const feeds: Record<string, EngineTensor> = {};
      for (const [name, tensor] of Object.entries(inputs)) feeds[name] = toEngine(tensor);
      const results = await session.run(feeds, outputs);
      const tensors: Record<string, Tensor> = {};
      for (const name of outputs) tensors[name] = fromEngine(results[name] as EngineTensor);
      return tensors satisfies TensorMap;
    },
    close: () => session.release(),
  };
}

function engineValue(value: InferenceSession.ValueMetadata): EngineValue {
  const shape = value.isTensor ? value.shape.map((size) => (typeof size === 'number' ? size : -1)) : [];
  return { name: value.name, isTensor: value.isTensor, shape };
}

function fromEngine(tensor: EngineTensor): Tensor {
  return {
    datatype: datatypeOfEngine(tensor.type)!,
    shape: tensor.dims,
    data: tensor.data,
  } as unknown as Tensor;
}

/** Model and flags of the CPU: a prepared form is optimised for them. */
function cpuIdentity(): string {
  try {
    const text = readFileSync('/proc/cpuinfo', 'latin1');
    const lines = ['model name', 'flags', 'Features'].map(
      (name) => new RegExp(`^${name}\\s*:.*$`, 'm').exec(text)?.[0],
    );
    return lines.join('\n');
  } catch {
    return cpus()[0]?.model ?? process.arch;
  }
}

async function runModel(engine: Engine, { runModel: path, runs, outputs }: RunModelTask) {
  const session = await engine.open(path, { unoptimized: true, extra: baseSessionExtra });
  const results: RunModelResult[] = [];
  try {
    for (const inputs of runs) {
      results.push(
        await session.run(inputs, outputs).then(
          (given) => ({ outputs: given }),
          (error: unknown) => ({ refused: messageOf(error) }),
        ),
      );
    }
  } finally {
    await session.close();
  }
  return results;
}

function main(options: PrepareProcessOptions): void {
  const engineVersion = createRequire(import.meta.url)('onnxruntime-node/package.json').version as string;
  let engine: Promise<Engine> | undefined;
  const { cacheDirectory, cacheMaxBytes } = options;
  const cache = cacheDirectory
    ? new PreparedCache<CachedModel>({
        directory: cacheDirectory,
        maxBytes: cacheMaxBytes,
        hashFile,
        owner: processIdentity(process.ppid),
      })
    : undefined;
  const measured = new MeasuredStructures();
  const environment = [engineVersion, process.platform, process.arch, cpuIdentity()];
  const loadEngine = (): Promise<Engine> => {
    engine ??= import('onnxruntime-node').then(engineOf);
    return engine;
  };
  const send = (reply: PrepareReply | RunModelReply): Promise<void> =>
    new Promise((resolve) => {
      process.send?.(reply, undefined, {}, () => resolve());
    });
  process.on('message', (task: PrepareTask | RunModelTask) => {
    const { id } = task;
    if ('runModel' in task) {
      loadEngine()
        .then((loaded) => runModel(loaded, task))
        .then(
          (results) => send({ id, results }),
          (error: unknown) => send({ id, error: errorToData(error) }),
        );
      return;
    }
    const { request, excluded } = task;
    prepareModel(request, {
      engine: loadEngine,
      cache,
      cacheDirectory,
      measured,
      hashFile,
      environment,
      enter: (phase) => send({ id, phase }),
      excluded,
    }).then(
      (model) => send({ id, model }),
      (error: unknown) => send({ id, error: errorToData(error) }),
    );
  });
  // The terminal sends its signals to the whole group: the parent drains, and this process ends with it.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => {});
  process.on('disconnect', () => process.exit(0));
}

main(JSON.parse(process.argv[2] ?? '{}') as PrepareProcessOptions);
