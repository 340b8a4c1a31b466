import { Tensor as EngineTensor, InferenceSession } from 'onnxruntime-node';
import { messageOf, ServingError } from '../errors.js';
import { enterRun, faultedInodes, leaveRun, mappedFileFaults, viewSlab } from '../native/binding.js';
import { type FixedData, type FixedDatatype, fixedDatatypes } from '../tensor/datatype.js';
import { changedFile } from './file-print.js';
import type { LoadMessage, RunMessage, RunOutput, RunResult, ValueInfo } from './messages.js';
import { StageRunner } from './stage-runner.js';

type EngineType = 'float32';

/** A session that predictors of one thread share; released by the last of them. */
class SharedSession {
  readonly engine: InferenceSession;
  #holders = 1;

  constructor(engine: InferenceSession) {
    this.engine = engine;
  }

  hold(): this {
    this.#holders += 1;
    return this;
  }

  async release(): Promise<void> {
    this.#holders -= 1;
    if (this.#holders === 0) await this.engine.release();
  }
}

/**
 * One engine session in one thread.
 *
 * `run` holds the thread until the engine is done: it belongs into a worker, or into the main thread only for
 * models that were measured to take microseconds.
 */
export class Predictor {
  readonly #session: SharedSession;
  readonly #inputs: readonly ValueInfo[];
  readonly #outputs: readonly ValueInfo[];
  readonly #journalId: number;
  readonly #mappedInodes: ReadonlySet<string>;
  readonly #stages: StageRunner;
  /** Lost pages of mapped files that were looked at already. */
  #knownFaults = mappedFileFaults();
  #isCorrupt = false;

  private constructor(session: SharedSession, stages: StageRunner, message: LoadMessage) {
    this.#session = session;
    this.#stages = stages;
    this.#inputs = message.inputs;
    this.#outputs = message.outputs;
    this.#journalId = message.journalId;
    this.#mappedInodes = new Set(message.mappedInodes);
  }

  /**
   * Opens the model file. Weights in an external file are mapped by the engine and shared with other clones.
   *
   * @param twin an open predictor of the same file and session options, whose session is used instead
   * @throws SRV_PROVIDER_MISSING when the execution provider is not installed, SRV_OUT_OF_MEMORY when the device
   * is full, SRV_MODEL_LOAD_FAILED when the engine does not open the file, SRV_IO when it was overwritten since the
   * version was prepared; what opening a table throws
   */
  static async open(message: LoadMessage, twin?: Predictor): Promise<Predictor> {
    const stages = await StageRunner.open(message);
    try {
      const session = twin ? twin.#session.hold() : await openSession(message);
      return new Predictor(session, stages, message);
    } catch (error) {
      stages.close();
      throw error;
    }
  }

  /**
   * Gathers the rows of its stages into the slot, runs one batch on views of the slot, and writes fixed-size outputs
   * behind the inputs while they fit.
   *
   * @throws SRV_OUT_OF_MEMORY when the device has no room for this batch, SRV_MODEL_RUN_FAILED when the engine
   * refuses the values, SRV_MODEL_CORRUPT when a mapped file of the model was truncated meanwhile
   */
  async run(message: RunMessage): Promise<RunResult> {
    const slab = message.shared ?? viewSlab(message.slab);
    const feeds: Record<string, EngineTensor> = {};
    for (let i = 0; i < this.#inputs.length; i++) {
      const { name, datatype } = this.#inputs[i]!;
      const input = message.inputs[i]!;
      feeds[name] =
        'strings' in input
          ? new EngineTensor('string', input.strings as string[], input.shape)
          : engineTensor(datatype as FixedDatatype, slab, input.offset, input.shape);
    }
    const gatherAt = process.hrtime.bigint();
    const gathered = this.#stages.run(message, slab);
    for (const { name, offset, shape } of gathered.targets) {
      feeds[name] = engineTensor('FP32', slab, offset, shape);
    }
    const names = message.fetch.map((index) => this.#outputs[index]!.name);
    const startedAt = process.hrtime.bigint();
    let results: InferenceSession.OnnxValueMapType;
    if (this.#journalId > 0) enterRun(this.#journalId);
    try {
      results = await this.#session.engine.run(feeds, names);
    } catch (error) {
      throw runError(error);
    } finally {
      leaveRun();
    }
    this.#requireSoundFiles();
    const computeNs = Number(process.hrtime.bigint() - startedAt);
    const outputs: RunOutput[] = [];
    let offset = message.replyOffset;
    const end = message.replyOffset + message.replyBytes;
    for (const name of names) {
      const result = results[name] as EngineTensor;
      const shape = result.dims as number[];
      if (result.type === 'string') {
        outputs.push({ shape, strings: result.data as string[] });
        continue;
      }
      const data = result.data as FixedData;
      if (offset + data.byteLength <= end) {
        new Uint8Array(slab, offset, data.byteLength).set(
          new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
        );
        outputs.push({ shape, offset });
        offset += alignSlot(data.byteLength);
      } else {
        outputs.push({ shape, data });
      }
    }
    return {
      outputs,
      gatherNs: gathered.targets.length === 0 ? 0 : Number(startedAt - gatherAt),
      computeNs,
      ...gathered.counts,
    };
  }

  /** A mapped page that is gone from its file reads as zeros, now and later: no answer can be trusted any more. */
  #requireSoundFiles(): void {
    const faults = mappedFileFaults();
    if (faults !== this.#knownFaults) {
      this.#knownFaults = faults;
      this.#isCorrupt ||= faultedInodes().some((inode) => this.#mappedInodes.has(String(inode)));
    }
    if (!this.#isCorrupt) return;
    throw new ServingError(
      'SRV_MODEL_CORRUPT',
      'a file of this model was truncated while it was mapped; the answers cannot be trusted',
    );
  }

  /** Gives the memory of the session and the hold of its tables back. */
  async close(): Promise<void> {
    this.#stages.close();
    await this.#session.release();
  }
}

async function openSession(message: LoadMessage): Promise<SharedSession> {
  requireSame(message);
  let engine: InferenceSession;
  try {
    engine = await InferenceSession.create(message.file, sessionOptions(message));
  } catch (error) {
    requireSame(message);
    throw loadError(error, message);
  }
  try {
    requireSame(message);
  } catch (error) {
    await engine.release();
    throw error;
  }
  return new SharedSession(engine);
}

function requireSame({ sources }: LoadMessage): void {
  const changed = changedFile(sources);
  if (changed === undefined) return;
  throw new ServingError(
    'SRV_IO',
    `${changed} was overwritten after its version was prepared: it is opened no more before the version is loaded anew`,
    { details: { path: changed } },
  );
}

/** Rounds a byte count up to the alignment of tensors within a slot. */
export function alignSlot(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}

function engineTensor(
  datatype: FixedDatatype,
  slab: ArrayBufferLike,
  offset: number,
  shape: readonly number[],
): EngineTensor {
  const info = fixedDatatypes[datatype];
  let count = 1;
  for (const dim of shape) count *= dim;
  const view = new info.array(slab, offset, count);
  // The engine refuses views of a SharedArrayBuffer; a slice has memory of its own.
  const data = slab instanceof SharedArrayBuffer ? view.slice() : view;
  // The engine's typings list each type apart; its constructor takes any pair of name and matching array.
  return new EngineTensor(info.engine as EngineType, data as Float32Array, shape);
}

function sessionOptions(message: LoadMessage): InferenceSession.SessionOptions {
  const { provider, deviceId } = message.device;
  return {
    executionProviders: [deviceId === undefined ? provider : { name: provider, deviceId }] as never,
    intraOpNumThreads: message.intraOpThreads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: message.graphOptimization,
    logSeverityLevel: 4,
    extra: nested({
      'session.intra_op.allow_spinning': '0',
      ...memoryLimit(message),
      ...message.sessionExtra,
    }),
  };
}

// The engine's Node package takes a card's number alone; other provider options reach the provider as session
// configuration under the prefix of its name.
function memoryLimit(message: LoadMessage): Readonly<Record<string, string>> {
  if (message.gpuMemoryLimitBytes === undefined || message.device.deviceId === undefined) return {};
  return {
    [`ep.${message.device.provider}executionprovider.gpu_mem_limit`]: String(message.gpuMemoryLimitBytes),
  };
}

/** Dotted keys as nested objects, which is how the engine's Node package takes them. */
function nested(entries: Readonly<Record<string, string>>): Record<string, unknown> {
  const root: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(entries)) {
    const path = key.split('.');
    let at = root;
    for (const part of path.slice(0, -1)) {
      at[part] ??= {};
      at = at[part] as Record<string, unknown>;
    }
    at[path.at(-1)!] = value;
  }
  return root;
}

function loadError(error: unknown, message: LoadMessage): ServingError {
  const text = messageOf(error);
  if (
    /Failed to load shared library|backend not found|no available backend|Failed to get a WebGPU adapter/i.test(
      text,
    )
  ) {
    return new ServingError(
      'SRV_PROVIDER_MISSING',
      `the execution provider ${message.device.provider} cannot be used on this machine: ${text}`,
    );
  }
  if (isOutOfMemory(text)) {
    return new ServingError('SRV_OUT_OF_MEMORY', `${message.device.name} has no room for the model: ${text}`);
  }
  return new ServingError('SRV_MODEL_LOAD_FAILED', `the engine cannot open ${message.file}: ${text}`);
}

function runError(error: unknown): ServingError {
  const text = messageOf(error);
  if (isOutOfMemory(text))
    return new ServingError('SRV_OUT_OF_MEMORY', `no memory left for this batch: ${text}`);
  if (isDeviceLost(text)) return new ServingError('SRV_DEVICE_LOST', `the device is gone: ${text}`);
  return new ServingError('SRV_MODEL_RUN_FAILED', `the engine refused these values: ${text}`);
}

// The allocators of the engine's CPU, CUDA and WebGPU back ends each have a wording of their own.
function isOutOfMemory(text: string): boolean {
  return /out of memory|bad_alloc|Failed to allocate memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation/i.test(
    text,
  );
}

// CUDA's sticky errors: every later call of the process on that card fails too.
function isDeviceLost(text: string): boolean {
  return /CUDA failure (4|46|100|101|214|219|220|700|702|709|710|714|715|716|717|718|719|999)\b|device (was )?lost/i.test(
    text,
  );
}
