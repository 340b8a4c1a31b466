import type { InferenceSession } from 'onnxruntime-node';

/** One thread, no spinning: the settings of every engine in the bench, the product's included. */
export const engineOptions: InferenceSession.SessionOptions = {
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  executionMode: 'sequential',
  extra: { session: { intra_op: { allow_spinning: '0' }, inter_op: { allow_spinning: '0' } } },
};
