/** The whole training: generated rows in, a network and a table out. */
import { ImpressionStream, seeds } from './generator.js';
import { exampleOf } from './model-input.js';
import { newNetwork } from './network.js';
import { Trainer } from './trainer.js';

const batchRows = 32;
const networkSeed = 7;

/** How much to train, and whom to tell. */
export interface TrainingOptions {
  /** Rows to learn from, each seen once; rounded up to whole batches. */
  readonly rows: number;
  /** Told some twenty times; `loss` is the mean cross-entropy of the rows since the last time. */
  readonly onProgress?: (progress: { readonly rows: number; readonly loss: number }) => void;
}

/** Trains from the start. The same options give the same weights. */
export function trainModel({ rows, onProgress }: TrainingOptions): Trainer {
  const trainer = new Trainer(newNetwork(networkSeed));
  const stream = new ImpressionStream(seeds.training);
  const reportEvery = Math.ceil(rows / 20);
  let loss = 0;
  let toldRows = 0;
  for (let done = 0; done < rows; done += batchRows) {
    const batch = Array.from({ length: batchRows }, () => exampleOf(stream.next()));
    loss += trainer.learn(batch, done / rows);
    const read = done + batchRows;
    if (read - toldRows < reportEvery && read < rows) continue;
    onProgress?.({ rows: read, loss: loss / (read - toldRows) });
    loss = 0;
    toldRows = read;
  }
  return trainer;
}
