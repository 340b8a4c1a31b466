import { writeFile } from 'node:fs/promises';
import cliProgress from 'cli-progress';
import { type Command, Option } from 'commander';
import { isAddress } from '../config/place.js';
import { ServingError } from '../errors.js';
import { type BenchFlags, type BenchPlan, benchDefaults, benchPlan } from '../loadtest/bench-plan.js';
import { compareReports } from '../loadtest/compare.js';
import { htmlReport } from '../loadtest/html-report.js';
import { fetchInputs, openHttpTarget } from '../loadtest/http-target.js';
import { openInProcessTarget } from '../loadtest/in-process-target.js';
import { readRecordedRequests } from '../loadtest/recorded-requests.js';
import { readReport } from '../loadtest/report.js';
import { encodeBody, jsonBody } from '../loadtest/request-body.js';
import { generateTensors, rowsOf } from '../loadtest/request-tensors.js';
import { type LoadProgress, runLoadTest } from '../loadtest/run-load-test.js';
import type { ModelStatistics } from '../loadtest/server-statistics.js';
import type { LoadTarget } from '../loadtest/target.js';
import { comparisonText, reportText } from '../loadtest/text-table.js';
import type { ModelStats } from '../observe/model-stats.js';
import { requirePlace } from '../repository/layout.js';
import type { TensorMap, TensorSpec } from '../tensor/tensor.js';

/**
 * Adds `bench` and `bench compare` to the program. Both throw `SRV_BAD_CONFIG` for bad flags.
 *
 * Turns positional options on: without them a `--version` after `bench` would be taken for the program's own.
 *
 * @param print takes the text that belongs on standard output
 */
export function registerBench(
  program: Command,
  print: (text: string) => void = (text) => void process.stdout.write(text),
): void {
  program.enablePositionalOptions();
  const bench = program
    .command('bench')
    .description('Measure a served model, or a model in this process, under load.')
    .enablePositionalOptions();
  for (const option of benchOptions()) bench.addOption(option);
  bench.addHelpText('after', examples);
  bench.action(async (flags: BenchFlags) => runBench(flags, print));

  bench
    .command('compare')
    .description('Compare two JSON reports: ratios of the second to the first.')
    .argument('<first>', 'report of the earlier run')
    .argument('<second>', 'report of the later run')
    .addOption(
      new Option(
        '--max_regression, --max-regression <share>',
        'exit with 1 when throughput, p50 or p99 got worse by more than this share, such as 0.1',
      ),
    )
    .action(async (first: string, second: string, flags: { maxRegression?: string }) =>
      runCompare(first, second, flags.maxRegression, print),
    );
}

const examples = `
Examples:
  onnx-serving bench --url http://127.0.0.1:9292 --model ranker --concurrency 1,8,64 --html report.html
  onnx-serving bench --url http://127.0.0.1:9292 --model ranker --rate 500,1000 --arrival poisson
  onnx-serving bench --in_process --model ./models/ranker --concurrency 32
  onnx-serving bench compare before.json after.json --max_regression 0.1
`;

function benchOptions(): Option[] {
  const collect = (value: string, earlier: readonly string[] | undefined): string[] => [
    ...(earlier ?? []),
    value,
  ];
  const withDefault = (flags: string, text: string, byDefault: string): Option =>
    new Option(flags, `${text} (default: ${byDefault})`);
  return [
    new Option('--url <url>', 'server to measure, such as http://127.0.0.1:9292'),
    new Option(
      '--in_process, --in-process',
      'open the model in this process instead; --model is then its path',
    ),
    new Option('--model <name>', 'name of the served model'),
    new Option('--version <version>', "version of the model (default: the server's choice)"),
    new Option('--thread <n>', 'worker threads, with --in_process'),
    withDefault('--protocol <json|binary>', 'how tensors travel', benchDefaults.protocol),
    withDefault('--concurrency <list>', 'closed loop: callers at a time', benchDefaults.concurrency),
    new Option('--rate <list>', 'open loop: requests per second, latency counted from the intended start'),
    withDefault('--arrival <fixed|poisson>', 'open loop: when requests are due', benchDefaults.arrival),
    withDefault('--duration <s>', 'seconds of one window', benchDefaults.duration),
    withDefault('--warmup <s>', 'seconds of load before the first window', benchDefaults.warmup),
    withDefault(
      '--max_windows, --max-windows <n>',
      'windows after which a load that is not stable is given up',
      benchDefaults.maxWindows,
    ),
    withDefault(
      '--stability <p50|p99>',
      'latency that three windows must agree in, beside throughput',
      benchDefaults.stability,
    ),
    withDefault('--rows <n>', 'rows of a generated request', benchDefaults.rows),
    withDefault('--samples <n>', 'distinct requests to generate', benchDefaults.samples),
    new Option('--input <file>', 'recorded requests instead: JSON bodies of the protocol, one a line'),
    new Option('--shape <name:1,16>', 'shape of an input with free dimensions; repeatable').argParser(
      collect,
    ),
    new Option('--range <name:0,999>', 'lowest and highest value of an input; repeatable').argParser(collect),
    withDefault('--seed <n>', 'seed of generated values and arrivals', benchDefaults.seed),
    withDefault('--timeout <ms>', 'after which a request has failed', benchDefaults.timeout),
    new Option('--json <file>', 'write the report as JSON'),
    new Option('--html <file>', 'write the report as a page with charts'),
  ];
}

async function runBench(flags: BenchFlags, print: (text: string) => void): Promise<void> {
  const plan = benchPlan(flags);
  const target = plan.url === undefined ? await inProcessTarget(plan) : await httpTarget(plan, plan.url);
  const progress = progressBar();
  try {
    const report = await runLoadTest({
      target,
      loads: plan.loads,
      windowMs: plan.windowMs,
      warmupMs: plan.warmupMs,
      maxWindows: plan.maxWindows,
      stabilityPercentile: plan.stabilityPercentile,
      labels: {
        model: plan.model,
        protocol: plan.url === undefined ? 'in process' : plan.protocol,
        requests: plan.input ?? `${plan.samples} generated, seed ${plan.seed}`,
      },
      onProgress: progress.tell,
    });
    progress.stop();
    print(`${reportText(report)}\n`);
    if (flags.json) await writeFile(flags.json, `${JSON.stringify(report, null, 2)}\n`);
    if (flags.html) await writeFile(flags.html, htmlReport(report));
    if (report.results.some((result) => result.requests.succeeded === 0)) process.exitCode = 1;
  } finally {
    progress.stop();
    await target.close();
  }
}

async function runCompare(
  first: string,
  second: string,
  maxRegression: string | undefined,
  print: (text: string) => void,
): Promise<void> {
  const limit = maxRegression === undefined ? undefined : Number(maxRegression);
  if (limit !== undefined && !(limit >= 0)) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `--max_regression ${maxRegression}: expected a share such as 0.1 for a tenth`,
    );
  }
  const comparison = compareReports(await readReport(first), await readReport(second), limit);
  print(`${comparisonText(comparison)}\n`);
  if (comparison.hasRegressed) process.exitCode = 1;
}

async function httpTarget(plan: BenchPlan, url: string): Promise<LoadTarget> {
  const address = {
    url,
    model: plan.model,
    ...(plan.version === undefined ? {} : { version: plan.version }),
  };
  if (plan.input !== undefined) {
    const recorded = await readRecordedRequests(plan.input);
    return openHttpTarget({
      ...address,
      bodies: recorded.map(({ text, tensors }) =>
        plan.protocol === 'json' ? jsonBody(text) : encodeBody(tensors, 'binary'),
      ),
      rowsPerRequest: meanRows(recorded.map(({ tensors }) => tensors)),
      timeoutMs: plan.timeoutMs,
    });
  }
  const requests = generated(plan, await fetchInputs(address));
  return openHttpTarget({
    ...address,
    bodies: requests.map((tensors) => encodeBody(tensors, plan.protocol)),
    rowsPerRequest: meanRows(requests),
    timeoutMs: plan.timeoutMs,
  });
}

function generated(plan: BenchPlan, inputs: readonly TensorSpec[]): TensorMap[] {
  return generateTensors(
    { inputs },
    { count: plan.samples, rows: plan.rows, shapes: plan.shapes, ranges: plan.ranges, seed: plan.seed },
  );
}

function meanRows(requests: readonly TensorMap[]): number {
  return requests.reduce((sum, tensors) => sum + rowsOf(tensors), 0) / requests.length;
}

async function inProcessTarget(plan: BenchPlan): Promise<LoadTarget> {
  const recorded = plan.input === undefined ? undefined : await readRecordedRequests(plan.input);
  if (!isAddress(plan.model)) await requirePlace(plan.model);
  // Not imported above: measuring a server needs no engine.
  const { openRuntime } = await import('../runtime.js');
  const name = 'bench';
  const runtime = await openRuntime({
    models: [{ path: plan.model, name }],
    ...(plan.threads === undefined ? {} : { threads: plan.threads }),
  });
  try {
    const failed = runtime.listModels().find((status) => status.error !== undefined);
    if (failed?.error) throw failed.error;
    const version = plan.version === undefined ? undefined : Number(plan.version);
    const { signature, stats } = runtime.service.model(name, version);
    const requests = recorded?.map(({ tensors }) => tensors) ?? generated(plan, signature.inputs);
    return await openInProcessTarget({
      runtime,
      model: name,
      ...(version === undefined ? {} : { version }),
      requests,
      rowsPerRequest: meanRows(requests),
      timeoutMs: plan.timeoutMs,
      statistics: () => statisticsOf(stats),
    });
  } catch (error) {
    await runtime.close();
    throw error;
  }
}

function statisticsOf(stats: ModelStats): ModelStatistics {
  return {
    inferenceCount: stats.inferenceCount,
    executionCount: stats.executionCount,
    successCount: stats.success.count,
    successNs: stats.success.ns,
    failCount: stats.fail.count,
    stageNs: {
      queue: stats.queue.ns,
      compute_input: stats.computeInput.ns,
      compute_infer: stats.computeInfer.ns,
      compute_output: stats.computeOutput.ns,
    },
  };
}

/** A bar on a terminal, nothing elsewhere. */
function progressBar(): { tell: (progress: LoadProgress) => void; stop: () => void } {
  if (!process.stderr.isTTY) return { tell: () => {}, stop: () => {} };
  const bar = new cliProgress.SingleBar({
    format: '{load} |{bar}| window {windowsDone} of at most {maxWindows}, {rate}',
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
  });
  let isStarted = false;
  return {
    tell(progress) {
      const total = progress.loadCount * progress.maxWindows;
      const done = progress.loadIndex * progress.maxWindows + progress.windowsDone;
      const shown = {
        ...progress,
        rate:
          progress.requestsPerSecond === undefined
            ? 'warming up'
            : `${progress.requestsPerSecond.toFixed(0)} req/s`,
      };
      if (isStarted) bar.update(done, shown);
      else bar.start(total, done, shown);
      isStarted = true;
    },
    stop() {
      if (isStarted) bar.stop();
      isStarted = false;
    },
  };
}
