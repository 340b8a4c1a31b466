/** Samples of live traffic: kept on disk for the next version's warm-up, or handed to who asks for them. */
import { access } from 'node:fs/promises';
import { messageOf, ServingError } from '../errors.js';
import { sampleFile } from './sample-file.js';
import { TrafficSample } from './traffic-sample.js';
import { type RequestToWrite, writeWhole } from './write-requests.js';

/** A timer that a recorder sets; the runtime's clock. */
export interface RecorderClock {
  setTimer(callback: () => void, ms: number): { cancel(): void };
}

/** How a recorder works. */
export interface TrafficRecorderOptions {
  /** Requests of each model that are kept on disk; 0: none. */
  readonly count: number;
  /** Memory of one sample. */
  readonly maxBytes: number;
  /** How often changed samples are written, in ms. */
  readonly intervalMs: number;
  /** Where all samples lie; absent: beside each model. */
  readonly directory: string | undefined;
  readonly clock: RecorderClock;
  /** Told when a sample cannot be written. */
  readonly onFailure: (model: string, message: string) => void;
  /** @default Math.random */
  readonly random?: (() => number) | undefined;
}

/** What is known of the model that a request went to. */
export interface SampledModel {
  readonly name: string;
  /** Its directory, beside which its sample lies. */
  readonly directory: string;
  /** Rows of the batches that it ran, with their statistics as values. */
  readonly batchSizes: ReadonlyMap<number, unknown>;
}

/** A sample as a file, and what it is of. */
export interface RecordedTraffic {
  readonly bytes: Buffer;
  readonly requests: number;
  /** Requests that it was drawn from. */
  readonly seen: number;
}

interface Kept {
  readonly sample: TrafficSample;
  readonly sizes: Set<number>;
  model: SampledModel;
  isChanged: boolean;
  /** Whether the file is this process' own, so that it may be replaced by a sample that is not full yet. */
  isOwn: boolean;
}

interface Listener {
  readonly sample: TrafficSample;
  readonly sizes: Set<number>;
  readonly end: () => void;
}

const maxSizes = 64;

/** Takes what is answered, and samples it. */
export class TrafficRecorder {
  readonly #options: TrafficRecorderOptions;
  readonly #random: () => number;
  readonly #kept = new Map<string, Kept>();
  readonly #listeners = new Map<string, Listener>();
  #timer: { cancel(): void } | undefined;
  #flushing: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(options: TrafficRecorderOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    if (options.count > 0) this.#plan();
  }

  /** Whether it wants to see requests. */
  get isListening(): boolean {
    return this.#options.count > 0 || this.#listeners.size > 0;
  }

  /** Shows a request that was answered. Its tensors are copied when they are kept. */
  offer(model: SampledModel, request: RequestToWrite): void {
    const listener = this.#listeners.get(model.name);
    if (listener) {
      listener.sample.offer(request);
      addSizes(listener.sizes, model);
    }
    if (this.#options.count === 0) return;
    let kept = this.#kept.get(model.name);
    if (!kept) {
      kept = {
        sample: this.#newSample(this.#options.count),
        sizes: new Set(),
        model,
        isChanged: false,
        isOwn: false,
      };
      this.#kept.set(model.name, kept);
    }
    kept.model = model;
    if (kept.sample.offer(request)) kept.isChanged = true;
  }

  /** The sample of a model that is kept; undefined without one. */
  sampleOf(model: string): RecordedTraffic | undefined {
    const kept = this.#kept.get(model);
    if (!kept) return undefined;
    addSizes(kept.sizes, kept.model);
    return recordedOf(kept.sample, kept.sizes);
  }

  /**
   * Samples the requests that are answered from now on.
   *
   * @param options.ms how long; the drain and `signal` end it before
   * @throws SRV_BAD_REQUEST when this is done for the model already
   */
  async listen(
    model: string,
    options: { readonly count: number; readonly ms: number; readonly signal?: AbortSignal | undefined },
  ): Promise<RecordedTraffic> {
    if (this.#listeners.has(model)) {
      throw new ServingError('SRV_BAD_REQUEST', `requests of '${model}' are being recorded already`);
    }
    const sample = this.#newSample(options.count);
    const sizes = new Set<number>();
    await new Promise<void>((resolve) => {
      const timer = this.#options.clock.setTimer(resolve, options.ms);
      const end = (): void => {
        timer.cancel();
        resolve();
      };
      this.#listeners.set(model, { sample, sizes, end });
      options.signal?.addEventListener('abort', end, { once: true });
      if (this.#isClosed || options.signal?.aborted) end();
    });
    this.#listeners.delete(model);
    return recordedOf(sample, sizes);
  }

  /**
   * Writes a sample where the next version of the model finds it, in the place of what lies there. The one that is kept on
   * disk anyway follows it at its next interval.
   *
   * @param directory of the model
   * @returns the file
   * @throws SRV_IO
   */
  async keep(model: string, directory: string, { bytes }: RecordedTraffic): Promise<string> {
    const file = sampleFile(model, directory, this.#options.directory);
    const written = this.#flushing.then(() => writeWhole(file, bytes));
    this.#flushing = written.catch(() => undefined);
    await written;
    const kept = this.#kept.get(model);
    if (kept) kept.isOwn = true;
    return file;
  }

  /** Ends what `listen` waits for. */
  drain(): void {
    for (const { end } of this.#listeners.values()) end();
  }

  /** Writes the samples that have changed. */
  flush(): Promise<void> {
    const flush = async (): Promise<void> => {
      for (const [name, kept] of this.#kept) {
        try {
          await this.#write(kept);
        } catch (error) {
          this.#options.onFailure(name, messageOf(error));
        }
      }
    };
    this.#flushing = this.#flushing.then(flush);
    return this.#flushing;
  }

  /** Writes what is left. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer?.cancel();
    this.drain();
    await this.flush();
  }

  /** A sample of a whole process is not given up for the first requests of the next one. */
  async #write(kept: Kept): Promise<void> {
    const { sample, model } = kept;
    if (!kept.isChanged || sample.size === 0) return;
    const file = sampleFile(model.name, model.directory, this.#options.directory);
    if (!sample.isFull && !kept.isOwn && (await exists(file))) return;
    kept.isChanged = false;
    addSizes(kept.sizes, model);
    await writeWhole(file, sample.toBytes([...kept.sizes]));
    kept.isOwn = true;
  }

  #newSample(count: number): TrafficSample {
    return new TrafficSample({ count, maxBytes: this.#options.maxBytes, random: this.#random });
  }

  #plan(): void {
    this.#timer = this.#options.clock.setTimer(() => {
      void this.flush().then(() => {
        if (!this.#isClosed) this.#plan();
      });
    }, this.#options.intervalMs);
  }
}

function recordedOf(sample: TrafficSample, sizes: ReadonlySet<number>): RecordedTraffic {
  return { bytes: sample.toBytes([...sizes]), requests: sample.size, seen: sample.seen };
}

function addSizes(sizes: Set<number>, { batchSizes }: SampledModel): void {
  for (const size of batchSizes.keys()) if (sizes.size < maxSizes) sizes.add(size);
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
