/** The door of `onnx-serving/bench`: the load harness for use in programs. */
export { compareReports, type LoadComparison, type ReportComparison } from './compare.js';
export { htmlReport } from './html-report.js';
export { fetchInputs, type HttpTargetOptions, type ModelAddress, openHttpTarget } from './http-target.js';
export {
  type InferenceRuntime,
  type InProcessTargetOptions,
  openInProcessTarget,
} from './in-process-target.js';
export { type Arrival, type ClosedLoad, type Load, loadName, type OpenLoad } from './load.js';
export { type LoadReport, type LoadResult, readReport } from './report.js';
export { type BodyProtocol, encodeBody, jsonBody, type RequestBody } from './request-body.js';
export { type GeneratorOptions, generateTensors, tensorsOfBody } from './request-tensors.js';
export { type LoadProgress, type LoadTestOptions, runLoadTest } from './run-load-test.js';
export type { ModelStatistics, ServerStages } from './server-statistics.js';
export type { StabilityPercentile } from './stability.js';
export type { LoadTarget } from './target.js';
export { comparisonText, reportText } from './text-table.js';
