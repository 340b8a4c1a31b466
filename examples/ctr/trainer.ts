/** Trains the network and its embeddings together, batch by batch: Adam for the layers, Adagrad for the table. */
import { denseColumns, slots } from './columns.js';
import { tableRows } from './feature-hash.js';
import { forwardRelu, LayerTraining } from './layer.js';
import type { Example, ModelInput } from './model-input.js';
import { dim, headWidth, hiddenWidths, inputWidth, type Network, scaledCount } from './network.js';

/** How fast to learn. Both rates fall to zero towards the end. */
const networkRate = 0.002;
const tableRate = 0.2;
/** What Adagrad's sums start with: the more, the smaller the first steps of a rare id. */
const patience = 20;
/**
 * Pull of a row towards zero each time that it is seen, in proportion to `decay / (times seen + decayDelay)`: all in
 * all a prior of constant weight, which holds rare ids near zero and is nothing to frequent ones.
 */
const decay = 10;
const decayDelay = 50;

/** Holds the table and the network while they are trained. */
export class Trainer {
  readonly network: Network;
  /** `tableRows` x `dim`: row i belongs to id i. Rows that were never seen are zero. */
  readonly table = new Float32Array(tableRows * dim);
  /** How often each id was seen. */
  readonly seen = new Uint32Array(tableRows);
  readonly #squares = new Float32Array(tableRows * dim);
  readonly #first: LayerTraining;
  readonly #second: LayerTraining;
  readonly #head: LayerTraining;
  #step = 0;

  // Of the row at hand.
  readonly #input = new Float64Array(inputWidth);
  readonly #hidden1 = new Float64Array(hiddenWidths[0]);
  readonly #hidden2 = new Float64Array(hiddenWidths[1]);
  readonly #headInput = new Float64Array(headWidth);
  readonly #error = new Float64Array(1);
  readonly #headGradient = new Float64Array(headWidth);
  readonly #gradient2 = new Float64Array(hiddenWidths[1]);
  readonly #gradient1 = new Float64Array(hiddenWidths[0]);
  readonly #inputGradient = new Float64Array(inputWidth);

  constructor(network: Network) {
    this.network = network;
    this.#first = new LayerTraining(network.first);
    this.#second = new LayerTraining(network.second);
    this.#head = new LayerTraining(network.head);
  }

  /** The probability of a click. */
  predict({ ids, dense }: ModelInput): number {
    const input = this.#input;
    for (let slot = 0; slot < slots; slot++) {
      const row = ids[slot]! * dim;
      for (let i = 0; i < dim; i++) input[slot * dim + i] = this.table[row + i]!;
    }
    for (let column = 0; column < denseColumns.length; column++) {
      input[slots * dim + column] = scaledCount(column, dense[column]!);
    }
    forwardRelu(this.network.first, input, this.#hidden1);
    forwardRelu(this.network.second, this.#hidden1, this.#hidden2);
    this.#headInput.set(this.#hidden2);
    this.#poolSlots();
    const { weights, bias } = this.network.head;
    let logOdds = bias[0]!;
    for (let i = 0; i < headWidth; i++) logOdds += weights[i]! * this.#headInput[i]!;
    return 1 / (1 + Math.exp(-logOdds));
  }

  /**
   * Learns from a batch.
   *
   * @param progress share of the training that is done, 0 to 1
   * @returns the batch's cross-entropy, summed over its rows, each before it was learned from
   */
  learn(batch: readonly Example[], progress: number): number {
    let loss = 0;
    for (const example of batch) {
      const probability = this.predict(example);
      loss -= Math.log(Math.max(1e-12, example.label === 1 ? probability : 1 - probability));
      this.#backward(probability - example.label);
      this.#moveRows(example.ids, (1 - progress) * tableRate);
    }
    this.#step += 1;
    for (const layer of [this.#first, this.#second, this.#head]) {
      layer.step(this.#step, (1 - progress) * networkRate, batch.length);
    }
    return loss;
  }

  /** The head's sums over the slots and over the pairs of slots. */
  #poolSlots(): void {
    const sums = hiddenWidths[1];
    for (let i = 0; i < dim; i++) {
      let sum = 0;
      let squares = 0;
      for (let at = i; at < slots * dim; at += dim) {
        const value = this.#input[at]!;
        sum += value;
        squares += value * value;
      }
      this.#headInput[sums + i] = sum;
      this.#headInput[sums + dim + i] = (sum * sum - squares) / 2;
    }
  }

  #backward(error: number): void {
    const sums = hiddenWidths[1];
    const headGradient = this.#headGradient;
    this.#error[0] = error;
    this.#head.backward(this.#headInput, this.#error, headGradient);
    for (let i = 0; i < sums; i++) this.#gradient2[i] = this.#hidden2[i]! > 0 ? headGradient[i]! : 0;
    this.#second.backward(this.#hidden1, this.#gradient2, this.#gradient1);
    for (let i = 0; i < hiddenWidths[0]; i++) if (this.#hidden1[i]! <= 0) this.#gradient1[i] = 0;
    this.#first.backward(this.#input, this.#gradient1, this.#inputGradient);
    for (let at = 0; at < slots * dim; at++) {
      const sum = sums + (at % dim);
      this.#inputGradient[at]! +=
        headGradient[sum]! + headGradient[sum + dim]! * (this.#headInput[sum]! - this.#input[at]!);
    }
  }

  #moveRows(ids: Int32Array, rate: number): void {
    const { table, seen } = this;
    const squares = this.#squares;
    for (let slot = 0; slot < slots; slot++) {
      const id = ids[slot]!;
      seen[id]! += 1;
      const pull = decay / (seen[id]! + decayDelay);
      for (let i = 0; i < dim; i++) {
        const at = id * dim + i;
        const gradient = this.#inputGradient[slot * dim + i]! + pull * table[at]!;
        squares[at]! += gradient * gradient;
        table[at]! -= (rate * gradient) / Math.sqrt(squares[at]! + patience);
      }
    }
  }
}
