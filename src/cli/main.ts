/** The command line: which subcommand, and the only place that knows exit codes. */
import { readFileSync, type Stats, unwatchFile, watchFile } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { Command, CommanderError } from 'commander';
import { readSurroundings } from '../config/load.js';
import { type ErrorCode, messageOf, ServingError } from '../errors.js';
import type { Runtime } from '../runtime.js';
import { registerBench } from './bench.js';
import { openFetchMeter } from './fetch-meter.js';
import { flagTextsOf, serveOptions, withUnderscores } from './flags.js';
import { inspectModel, prepareModels } from './model.js';
import { registerModelSplit } from './model-split.js';
import { registerMonitor } from './monitor.js';
import { registerPublish } from './publish.js';
import { registerSeqfile } from './seqfile.js';
import { type ServeOutcome, serve } from './serve.js';
import { registerTable } from './table.js';
import { registerWarmUp } from './warmup.js';

const exitDone = 0;
const exitFailed = 1;
const exitBadUsage = 2;
const exitNothingToServe = 3;

/**
 * Runs the command line.
 *
 * @param args the arguments after the program's name
 * @returns the exit code: 0 done or drained, 1 failed while running, 2 bad usage or configuration, 3 nothing to
 * serve or a model that cannot be loaded
 */
export async function main(args: readonly string[]): Promise<number> {
  let exitCode: number | undefined;
  const program = buildProgram((code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync(withUnderscores(args), { from: 'user' });
    return exitCode ?? (Number(process.exitCode) || exitDone);
  } catch (error) {
    return exitCodeOfError(error);
  }
}

function exitCodeOfError(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitDone : exitBadUsage;
  if (!(error instanceof ServingError)) {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : messageOf(error)}\n`);
    return exitFailed;
  }
  process.stderr.write(`${error.message}\n`);
  return exitCodes[error.code] ?? exitFailed;
}

const exitCodes: Readonly<Partial<Record<ErrorCode, number>>> = {
  SRV_BAD_CONFIG: exitBadUsage,
  SRV_PROVIDER_MISSING: exitBadUsage,
  SRV_MODEL_NOT_FOUND: exitNothingToServe,
  SRV_MODEL_INVALID: exitNothingToServe,
  SRV_MODEL_UNSUPPORTED: exitNothingToServe,
  SRV_MODEL_CRASHED: exitNothingToServe,
  SRV_MODEL_LOAD_FAILED: exitNothingToServe,
  SRV_MODEL_QUARANTINED: exitNothingToServe,
  SRV_FOREIGN_FORMAT: exitNothingToServe,
};

const exitCodeOfOutcome: Readonly<Record<ServeOutcome, number>> = {
  drained: exitDone,
  'cut-short': exitFailed,
  'nothing-to-serve': exitNothingToServe,
};

function buildProgram(end: (exitCode: number) => void): Command {
  const program = new Command('onnx-serving')
    .description('Serve ONNX models over HTTP (Open Inference Protocol v2), batched, from worker threads.')
    .version(packageVersion())
    .exitOverride()
    .showHelpAfterError('(add --help for all flags)')
    .addHelpText('after', programExamples);
  // Subcommands copy this at their making, so it stands before them.
  program.configureHelp({ helpWidth: helpWidth() });
  registerServe(program, end);
  registerModel(program, end);
  registerBench(program);
  registerSeqfile(program);
  registerTable(program);
  registerWarmUp(program);
  registerMonitor(program, (isInPlace) => end(isInPlace ? exitDone : exitFailed));
  registerPublish(program);
  return program;
}

function registerServe(program: Command, end: (exitCode: number) => void): void {
  const command = program
    .command('serve')
    .description('Serve models until SIGTERM or SIGINT, then finish what was accepted and exit.')
    .allowExcessArguments(false)
    .addHelpText('after', serveNotes);
  for (const option of serveOptions()) command.addOption(option);
  command.action(async (options: Record<string, unknown>) => {
    // Little of a request outlives a collection of young objects: waking threads to help costs more than they save
    // (bench/README.md, ctr-end-to-end).
    setFlagsFromString('--no-parallel-scavenge');
    // Loaded here, so that --help does not start the engine's libraries.
    const [{ openRuntime }, { createServer }] = await Promise.all([
      import('../runtime.js'),
      import('../server/app.js'),
    ]);
    const outcome = await serve<Runtime>(flagTextsOf(options), {
      surroundings: readSurroundings(),
      workingDir: process.cwd(),
      stdout: process.stdout,
      stderr: process.stderr,
      fetchMeter: openFetchMeter(process.stderr),
      onStopRequest: listenForSignals,
      onFileChange: watchConfigFile,
      pause: (ms) => new Promise((done) => void setTimeout(done, ms).unref()),
      openRuntime,
      createServer,
    });
    end(exitCodeOfOutcome[outcome]);
  });
}

function registerModel(program: Command, end: (exitCode: number) => void): void {
  const model = program
    .command('model')
    .description('Look at model files, prepare them ahead of the start, or cut tables out of them.');
  model
    .command('inspect')
    .description('Show signature, opsets, the largest initialisers and what the prepared form will be.')
    .argument('<file>', 'a .onnx file, or the directory of a model')
    .option('--json', 'print JSON')
    .action(async (file: string, options: { json?: boolean }) => {
      process.stdout.write(await inspectModel(file, { json: options.json === true }));
    });
  model
    .command('prepare')
    .description('Make the prepared form of models, so that a later start finds it in the cache.')
    .argument('<place...>', 'model files, model directories, or directories of them')
    .option('--cache_dir <directory>', 'where prepared models are kept (default: that of serve)')
    .action(async (places: string[], options: { cache_dir?: string }) => {
      const surroundings = readSurroundings();
      const { Preparer } = await import('../model/preparer.js');
      const failures = await prepareModels(
        places,
        { cacheDir: options.cache_dir ?? surroundings.env.ONNX_SERVING_CACHE_DIR },
        {
          surroundings,
          stdout: process.stdout,
          stderr: process.stderr,
          openPreparer: ({ cacheDir, cacheBytes, prepareTimeoutMs }) =>
            new Preparer({
              cacheDirectory: cacheDir,
              cacheMaxBytes: cacheBytes,
              modelTimeoutMs: prepareTimeoutMs,
            }),
        },
      );
      end(failures === 0 ? exitDone : exitNothingToServe);
    });
  registerModelSplit(model);
}

const sameSignalMs = 300;

function listenForSignals(listener: (signal: string) => void): () => void {
  const signals = ['SIGTERM', 'SIGINT'] as const;
  let lastAt = Number.NEGATIVE_INFINITY;
  // A terminal and npm each pass one Ctrl-C on: what comes at the same time was meant once.
  const once = (signal: string): void => {
    const now = performance.now();
    if (now - lastAt < sameSignalMs) return;
    lastAt = now;
    listener(signal);
  };
  for (const signal of signals) process.on(signal, once);
  return () => {
    for (const signal of signals) process.off(signal, once);
  };
}

function helpWidth(): number {
  return Math.min(120, Math.max(80, process.stdout.columns ?? 100));
}

function packageVersion(): string {
  const file = new URL('../../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

const programExamples = `
Examples:
  onnx-serving serve --model path/to/model.onnx
  onnx-serving model inspect path/to/model.onnx
`;

const serveNotes = `
Settings
  Every flag is also an environment variable, ONNX_SERVING_ and the name in capitals (--max_batch_size is
  ONNX_SERVING_MAX_BATCH_SIZE), and a key of the --config file (max_batch_size: 64; models: a list of {path, name}).
  A flag wins over the environment, the environment over the file. Flags may be written with dashes. Sizes are bytes
  or text like 64mb. Settings of one model go into a model.json beside it.

Examples
  onnx-serving serve --model ranker/model.onnx
  onnx-serving serve --model models/ranker --model models/net.onnx --port 8080
  onnx-serving serve --model_repository models --thread 4 --max_queue_delay_us 500
  onnx-serving serve --model ranker --gpu_ids 0,1
  onnx-serving serve --config serving.yaml --log_format json
  ONNX_SERVING_PORT=8080 onnx-serving serve --model ranker

Exit codes
  0 drained; 1 failed while running, or the drain was cut short; 2 bad usage or configuration; 3 nothing to serve
`;

const fileLookMs = 1000;

/** Looks rather than listens: a file that is replaced by a rename or through a link makes no event of its own. */
function watchConfigFile(file: string, listener: () => void): () => void {
  const look = (now: Stats): void => {
    // One that is gone just now is being replaced.
    if (now.mtimeMs > 0) listener();
  };
  watchFile(file, { interval: fileLookMs, persistent: false }, look);
  return () => unwatchFile(file, look);
}
