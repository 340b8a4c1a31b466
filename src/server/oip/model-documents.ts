import type { DurationCount, ModelStats } from '../../observe/model-stats.js';
import type { TensorSpec } from '../../tensor/tensor.js';
import type { ModelStatus, ModelView } from '../service.js';

const platform = 'onnx_onnxv1';

/** The metadata of a version, as the protocol has it. */
export function metadataOf(view: ModelView): object {
  return {
    name: view.name,
    versions: view.readyVersions.map(String),
    ...(Object.keys(view.modelLabels).length > 0 ? { labels: view.modelLabels } : {}),
    platform,
    inputs: view.signature.inputs.map((spec) => tensorMetadata(view, spec)),
    outputs: view.signature.outputs.map((spec) => tensorMetadata(view, spec)),
  };
}

/** The configuration of a version, in the JSON form of Triton's ModelConfig message. */
export function configOf(view: ModelView): object {
  const merges = view.maxBatchSize > 0;
  const values = (specs: readonly TensorSpec[]): object[] =>
    specs.map(({ name, datatype, shape }) => ({
      name,
      data_type: datatype === 'BYTES' ? 'TYPE_STRING' : `TYPE_${datatype}`,
      dims: merges ? shape.slice(1) : shape,
    }));
  return {
    name: view.name,
    platform,
    backend: 'onnxruntime',
    version_policy: view.versionPolicy,
    max_batch_size: view.maxBatchSize,
    input: values(view.signature.inputs),
    output: values(view.signature.outputs),
    instance_group: view.instances.map(({ device, count }) => ({
      name: `${view.name}_${device}`,
      kind: device === 'cpu' ? 'KIND_CPU' : 'KIND_GPU',
      count,
      gpus: device === 'cpu' ? [] : [Number(device.split(':')[1])],
    })),
    default_model_filename: 'model.onnx',
    ...(Object.keys(view.parameters).length > 0 ? { parameters: parametersOf(view) } : {}),
    ...(merges
      ? {
          dynamic_batching: {
            preferred_batch_size: view.preferredBatchSizes,
            max_queue_delay_microseconds: view.maxQueueDelayUs,
          },
        }
      : {}),
  };
}

function parametersOf({ parameters }: ModelView): object {
  return Object.fromEntries(Object.entries(parameters).map(([key, value]) => [key, { string_value: value }]));
}

/** The statistics of a version, as Triton's statistics extension has them. */
export function statisticsOf(view: ModelView): object {
  const { stats } = view;
  return {
    name: view.name,
    version: String(view.version),
    last_inference: stats.lastInferenceAt,
    inference_count: stats.inferenceCount,
    execution_count: stats.executionCount,
    inference_stats: {
      success: copy(stats.success),
      fail: copy(stats.fail),
      queue: copy(stats.queue),
      compute_input: copy(stats.computeInput),
      compute_infer: copy(stats.computeInfer),
      compute_output: copy(stats.computeOutput),
      cache_hit: { count: 0, ns: 0 },
      cache_miss: { count: 0, ns: 0 },
    },
    batch_stats: batchStatistics(stats),
    memory_usage: [{ type: 'CPU', id: 0, byte_size: view.fileBytes }],
  };
}

/** A version in the repository index. */
export function indexEntryOf(status: ModelStatus): object {
  const state = indexStates[status.state];
  return {
    name: status.name,
    version: String(status.version),
    state,
    reason: status.reason ?? (status.state === 'unloaded' ? 'unloaded' : ''),
  };
}

const indexStates = {
  new: 'UNAVAILABLE',
  loading: 'LOADING',
  ready: 'READY',
  draining: 'UNLOADING',
  unloaded: 'UNAVAILABLE',
  failed: 'UNAVAILABLE',
} as const;

function tensorMetadata(view: ModelView, { name, datatype, shape }: TensorSpec): object {
  return { name, datatype, shape: view.anyRank.has(name) ? [-1] : shape };
}

function batchStatistics(stats: ModelStats): object[] {
  return [...stats.batchSizes]
    .sort(([a], [b]) => a - b)
    .map(([size, { computeInput, computeInfer, computeOutput }]) => ({
      batch_size: size,
      compute_input: copy(computeInput),
      compute_infer: copy(computeInfer),
      compute_output: copy(computeOutput),
    }));
}

function copy({ count, ns }: DurationCount): DurationCount {
  return { count, ns };
}
