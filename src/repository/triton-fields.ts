/**
 * Every field of Triton's `ModelConfig`, and what becomes of it here: used, known and without effect, or refused because
 * leaving it out would give other answers. The table of `docs/models.md` is printed from it.
 */
import { booleanOf, type Fields } from './text-fields.js';
import type { TextValue } from './text-proto.js';

/** Triton's names of datatypes, each with the protocol's. */
export const tritonDatatypes: Readonly<Record<string, string>> = {
  TYPE_BOOL: 'BOOL',
  TYPE_UINT8: 'UINT8',
  TYPE_UINT16: 'UINT16',
  TYPE_UINT32: 'UINT32',
  TYPE_UINT64: 'UINT64',
  TYPE_INT8: 'INT8',
  TYPE_INT16: 'INT16',
  TYPE_INT32: 'INT32',
  TYPE_INT64: 'INT64',
  TYPE_FP16: 'FP16',
  TYPE_FP32: 'FP32',
  TYPE_FP64: 'FP64',
  TYPE_STRING: 'BYTES',
  TYPE_BF16: 'BF16',
};

const isFalse = (value: TextValue): boolean => booleanOf(value) === false;
const isWord =
  (...words: string[]) =>
  (value: TextValue): boolean =>
    value.kind === 'word' && words.includes(value.value);
const isEmpty = (value: TextValue): boolean =>
  value.kind === 'message' ? value.value.size === 0 : value.value === '';

const dataType = { type: 'enum', names: Object.keys(tritonDatatypes) } as const;
const whole = { type: 'integer' } as const;

const tensor = {
  name: { type: 'string', used: "must be a name of the model's" },
  data_type: { ...dataType, used: "must be the model's" },
  dims: {
    type: 'integer',
    isRepeated: true,
    used: "must fit the model's, without the first dimension where max_batch_size is above 0",
  },
  reshape: {
    type: {},
    refused: "requests would have another shape than the model's",
  },
  is_shape_tensor: { type: 'boolean', ignored: 'only TensorRT has shape tensors', isMoot: isFalse },
  is_non_linear_format_io: {
    type: 'boolean',
    ignored: 'only TensorRT has such formats',
    isMoot: isFalse,
  },
} as const satisfies Fields;

const queuePolicy = {
  timeout_action: {
    type: 'enum',
    names: ['REJECT', 'DELAY'],
    used: 'timeout_action; REJECT: requests that wait longer are answered with 504, DELAY: all others go before them. A timeout that a request names itself rejects',
  },
  default_timeout_microseconds: {
    ...whole,
    used: 'request_timeout_ms',
  },
  allow_timeout_override: {
    type: 'boolean',
    ignored: 'the timeout that a request names always counts',
    isMoot: (value) => booleanOf(value) === true,
  },
  max_queue_size: { ...whole, used: 'max_queue_size; 0: as if it were not there' },
} as const satisfies Fields;

/** The fields of `ModelConfig`. */
export const tritonFields = {
  name: { type: 'string', used: 'the name to serve the model under; --name and model.json win' },
  platform: { type: 'string', used: 'must be onnxruntime_onnx where it is given without a backend' },
  backend: { type: 'string', used: 'must be onnxruntime where it is given' },
  runtime: { type: 'string', ignored: 'there is one engine', isMoot: isEmpty },
  version_policy: {
    type: {
      latest: { type: { num_versions: whole } },
      all: { type: {} },
      specific: { type: { versions: { ...whole, isRepeated: true } } },
    },
    used: 'which version directories are served; model_config_file and model.json win',
  },
  max_batch_size: {
    ...whole,
    used: 'rows that one batch may hold; 0: the tensors have no batch dimension and requests do not merge',
  },
  input: {
    type: {
      ...tensor,
      format: { type: 'enum', ignored: "the model's own layout counts", isMoot: isWord('FORMAT_NONE') },
      allow_ragged_batch: {
        type: 'boolean',
        ignored: 'requests of unlike shapes are run in batches of their own',
        isMoot: isFalse,
      },
      optional: { type: 'boolean', ignored: 'every request has to give the input', isMoot: isFalse },
    },
    isRepeated: true,
    used: 'compared with the model when it is loaded: all of its inputs, or none at all',
  },
  output: {
    type: {
      ...tensor,
      label_filename: { type: 'string', ignored: 'classification is not offered', isMoot: isEmpty },
    },
    isRepeated: true,
    used: 'compared with the model when it is loaded',
  },
  batch_input: {
    type: {},
    isRepeated: true,
    refused: 'the model would wait for an input that the server had to make',
  },
  batch_output: { type: {}, isRepeated: true, refused: 'outputs are cut by rows alone' },
  optimization: {
    type: {},
    ignored: 'graph_optimization, prepacking and intra_op_threads of model.json set what the engine offers',
    isMoot: isEmpty,
  },
  dynamic_batching: {
    type: {
      preferred_batch_size: {
        ...whole,
        isRepeated: true,
        used: 'preferred_batch_size of the model: waiting for more rows ends when the smallest of them is reached',
      },
      max_queue_delay_microseconds: { ...whole, used: 'max_queue_delay_us of the model' },
      preserve_ordering: {
        type: 'boolean',
        ignored: 'replies over HTTP have no order among each other',
        isMoot: isFalse,
      },
      priority_levels: {
        ...whole,
        used: 'priority_levels of the model: a request with a higher number has the default',
      },
      default_priority_level: { ...whole, used: 'default_priority of the model' },
      default_queue_policy: { type: queuePolicy, used: 'for the model as a whole:' },
      priority_queue_policy: {
        type: { key: whole, value: { type: queuePolicy } },
        isRepeated: true,
        used: 'queue_policies of the model: for the requests of one priority:',
      },
    },
    used: 'merging itself is decided by a trial: batching in model.json overrides',
  },
  sequence_batching: {
    type: {},
    refused:
      'sequence batching is not supported yet; without the state of its sequence the model would answer wrongly',
  },
  ensemble_scheduling: { type: {}, refused: 'models are not joined into ensembles yet' },
  instance_group: {
    type: {
      name: { type: 'string', used: 'says nothing to the server' },
      kind: {
        type: 'enum',
        names: ['KIND_AUTO', 'KIND_GPU', 'KIND_CPU', 'KIND_MODEL'],
        used: 'KIND_CPU, KIND_GPU: cpu and gpu_ids of the model; KIND_AUTO: all devices',
        ignored: 'with KIND_MODEL, all devices of the server run the model',
        isMoot: isWord('KIND_AUTO', 'KIND_GPU', 'KIND_CPU'),
      },
      count: {
        ...whole,
        ignored:
          'all models share the threads of a device, whose number is --thread or --predictors_per_card; max_workers in model.json limits those that run this model at once',
      },
      gpus: { ...whole, isRepeated: true, used: 'gpu_ids of the model' },
      rate_limiter: { type: {}, ignored: 'there is no rate limiter' },
      secondary_devices: { type: {}, isRepeated: true, ignored: 'the engine has none' },
      profile: { type: 'string', isRepeated: true, ignored: 'only TensorRT has profiles' },
      passive: { type: 'boolean', refused: 'every instance runs requests', isMoot: isFalse },
      host_policy: { type: 'string', ignored: 'threads are not bound to CPUs' },
    },
    isRepeated: true,
  },
  default_model_filename: { type: 'string', used: "the model's file in a version directory" },
  cc_model_filenames: { type: {}, isRepeated: true, ignored: 'an ONNX model is the same for every card' },
  metric_tags: { type: {}, isRepeated: true, ignored: 'metrics are labelled by model and version' },
  parameters: {
    type: { key: { type: 'string' }, value: { type: { string_value: { type: 'string' } } } },
    isRepeated: true,
    used: 'shown in the model configuration; intra_op_thread_count above 0 is intra_op_threads of the model',
  },
  model_warmup: {
    type: {
      name: { type: 'string' },
      batch_size: whole,
      count: whole,
      inputs: {
        type: {
          key: { type: 'string' },
          value: {
            type: {
              data_type: dataType,
              dims: { ...whole, isRepeated: true },
              zero_data: { type: 'boolean' },
              random_data: { type: 'boolean' },
              input_data_file: { type: 'string' },
            },
          },
        },
        isRepeated: true,
      },
    },
    isRepeated: true,
    used: 'requests that are run before a version is ready; files lie in the directory warmup of the model',
  },
  model_operations: {
    type: {},
    refused: 'the engine loads no libraries of operators',
    isMoot: isEmpty,
  },
  model_transaction_policy: {
    type: {
      decoupled: { type: 'boolean', refused: 'a request has exactly one reply', isMoot: isFalse },
    },
  },
  model_repository_agents: {
    type: {},
    refused: 'an agent may check or change the files, which nothing does here',
    isMoot: isEmpty,
  },
  response_cache: {
    type: { enable: { type: 'boolean', ignored: 'there is no cache of replies', isMoot: isFalse } },
  },
  model_metrics: { type: {}, ignored: 'metrics are the same for every model' },
} as const satisfies Fields;
