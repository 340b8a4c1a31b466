/** The public door of the package. */
export type { ModelOption, RuntimeOptions, ServerOptions } from './config/schema.js';
export type { SplitSettings, TrafficStep } from './config/traffic-settings.js';
export {
  type ErrorCode,
  type ErrorDetails,
  type ErrorKind,
  errorCodes,
  errorKinds,
  ServingError,
} from './errors.js';
export type { VersionState } from './lifecycle/version.js';
export { type InferOptions, type InferResult, openRuntime, type Runtime } from './runtime.js';
export { createServer, type ServingPluginOptions, servingPlugin } from './server/app.js';
export type {
  ModelStatus,
  TrafficChange,
  TrafficControl,
  TrafficStatus,
} from './server/service.js';
export {
  type BuildProgress,
  type BuildTableOptions,
  type BuiltVersion,
  buildTable,
} from './sparse/builder.js';
export { type HashKeysOptions, hashKeys } from './sparse/hash-keys.js';
export type {
  Combiner,
  Gathered,
  GatherOptions,
  LocalTable,
  MissingPolicy,
  RowType,
  VerifyOptions,
} from './sparse/local-table.js';
export type { Manifest } from './sparse/manifest.js';
export {
  type ComparedTables,
  compactTable,
  diffTables,
  type RebuildOptions,
  writeDelta,
} from './sparse/rebuild.js';
export { type OpenTableOptions, openTable } from './sparse/table.js';
export { type Datatype, datatypes } from './tensor/datatype.js';
export {
  type FixedTensor,
  type Signature,
  type StringTensor,
  type Tensor,
  type TensorMap,
  type TensorSpec,
  tensor,
} from './tensor/tensor.js';
export { requestsOfArrays as warmUpRequestsOfArrays } from './warmup/make-requests.js';
export {
  type ReadRequestsOptions as ReadWarmUpOptions,
  readRequests as readWarmUpRequests,
} from './warmup/read-requests.js';
export type { RequestPlace, WarmUpRequest, WarmUpRequests } from './warmup/request.js';
export {
  type RequestToWrite as WarmUpRequestToWrite,
  writeRequests as writeWarmUpRequests,
} from './warmup/write-requests.js';
