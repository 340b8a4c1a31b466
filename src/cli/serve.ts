/** `serve`: settings, then models, then the port; after that it waits for a signal and drains. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { configFileOf, isLoopback, loadServeConfig, type Surroundings } from '../config/load.js';
import type { RuntimeOptions, ServeConfig, ServerOptions } from '../config/schema.js';
import type { FlagTexts } from '../config/sources.js';
import { errorToData, messageOf, ServingError } from '../errors.js';
import type { Logger } from '../observe/logger.js';
import type { FetchMeter } from './fetch-meter.js';
import { openLog } from './log-output.js';
import { modelTable, type TableModel } from './table-text.js';

/** The part of a runtime that `serve` uses. */
export interface ServedRuntime {
  listModels(): readonly TableModel[];
  /** Whether models are brought here from elsewhere, so that what is not here, or cannot be loaded, may still come. */
  readonly bringsModels: boolean;
  /** Takes another `traffic` over, or throws and changes nothing. */
  configureTraffic(traffic: ServeConfig['runtime']['traffic']): Promise<void>;
  /** Reports not ready from now on; requests are still answered. */
  drain(): void;
  /**
   * Takes no new work, lets accepted work finish and closes. With `timeoutMs: 0` only runs that are in the engine
   * are awaited; it may be called again with less time than before.
   */
  close(options: { readonly timeoutMs: number }): Promise<void>;
}

/** The part of the HTTP application that `serve` uses. */
export interface ServedApp {
  listen(options: { readonly host: string; readonly port: number }): Promise<string>;
  close(): PromiseLike<unknown>;
  readonly server: { address(): AddressInfo | string | null; closeAllConnections(): void };
}

/** What `serve` reaches the world through; tests hand in their own. */
export interface ServeWorld<Runtime extends ServedRuntime = ServedRuntime> {
  readonly surroundings: Surroundings;
  /** The directory that `./models` is looked for in. */
  readonly workingDir: string;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  /** Shows how far the fetches of the start are; undefined where nobody looks at a terminal. */
  readonly fetchMeter?: FetchMeter | undefined;
  /** Calls back on each request to stop, until the returned function is called. */
  onStopRequest(listener: (signal: string) => void): () => void;
  /** Calls back when the file was changed or replaced, until the returned function is called. */
  onFileChange(file: string, listener: () => void): () => void;
  /** Resolves after that time without keeping the process alive. */
  pause(ms: number): Promise<void>;
  openRuntime(
    options: RuntimeOptions,
    deps: { readonly logger: Logger; readonly signal: AbortSignal; readonly onFetch?: FetchMeter },
  ): Promise<Runtime>;
  createServer(
    runtime: Runtime,
    options: ServerOptions,
    deps: { readonly logger: Logger },
  ): Promise<ServedApp>;
}

/** How serving ended: in order, by force or past the drain's time limit, or before it began. */
export type ServeOutcome = 'drained' | 'cut-short' | 'nothing-to-serve';

/**
 * Serves until a signal asks to stop.
 *
 * @throws ServingError `SRV_BAD_CONFIG`, `SRV_PROVIDER_MISSING`, `SRV_PORT_IN_USE`, `SRV_IO` when it cannot start.
 */
export async function serve<Runtime extends ServedRuntime>(
  flags: FlagTexts,
  world: ServeWorld<Runtime>,
): Promise<ServeOutcome> {
  const config = loadServeConfig({ flags, surroundings: world.surroundings });
  const placed = await withModels(config, world.workingDir);
  const runtimeOptions = placed && withState(placed);
  if (!runtimeOptions) {
    world.stderr.write(nothingGivenText);
    return 'nothing-to-serve';
  }
  const log = openLog(config.log, world.stderr);
  const stop = watchStopRequests(world);
  try {
    return await serveModels(flags, config, runtimeOptions, world, log.logger, stop);
  } finally {
    stop.unwatch();
    log.close();
  }
}

async function serveModels<Runtime extends ServedRuntime>(
  flags: FlagTexts,
  config: ServeConfig,
  runtimeOptions: RuntimeOptions,
  world: ServeWorld<Runtime>,
  logger: Logger,
  stop: StopRequests,
): Promise<ServeOutcome> {
  // A thousand models take their time: whoever asks to stop meanwhile does not wait for the last of them.
  const opening = new AbortController();
  void stop.first.then(() => opening.abort());
  let runtime: Runtime;
  try {
    runtime = await world.openRuntime(runtimeOptions, {
      logger,
      signal: opening.signal,
      ...(world.fetchMeter ? { onFetch: world.fetchMeter } : {}),
    });
  } catch (error) {
    if (opening.signal.aborted) {
      logger.info('stopped while the models were loading');
      return 'drained';
    }
    if (!isUnreadablePlace(error, runtimeOptions)) throw error;
    world.stderr.write(`Nothing to serve: ${error.message}\n`);
    return 'nothing-to-serve';
  }
  const hasReady = runtime.listModels().some(({ state }) => state === 'ready');
  if (
    !hasReady &&
    config.runtime.loadModels === 'at_start' &&
    !mayStartEmpty(config) &&
    !runtime.bringsModels
  ) {
    const models = runtime.listModels();
    world.stderr.write(
      models.length === 0
        ? `Nothing to serve: ${runtimeOptions.modelRepository ?? runtimeOptions.modelConfigFile ?? 'the given place'} holds no model.\n`
        : `Nothing to serve: no model could be loaded.\n${modelTable(models)}`,
    );
    await runtime.close({ timeoutMs: 0 });
    return 'nothing-to-serve';
  }
  const app = await world.createServer(runtime, config.server, { logger });
  try {
    await listen(app, config);
  } catch (error) {
    await app.close();
    await runtime.close({ timeoutMs: 0 });
    throw error;
  }
  const url = urlOf(app, config.server.host);
  world.stdout.write(
    `${modelTable(runtime.listModels())}\nListening on ${url}\n${examplesText(runtime, url)}`,
  );
  if (!hasReady && runtime.bringsModels) {
    logger.warn('no model is ready yet: the server reports not ready until one has been fetched and loaded');
  }
  if (!isLoopback(config.server.host)) {
    logger.warn(
      `${config.server.host} can be reached from other machines and there is no TLS and no authentication: put it behind a proxy`,
    );
  }
  const unfollow = followTraffic(flags, config, runtime, world, logger);
  logger.info({ signal: await stop.first }, 'draining');
  unfollow();
  return drain(app, runtime, config.runtime, world, stop, logger);
}

/** A server keeps what is asked for at run time for the next one on the same places. */
function withState(options: RuntimeOptions): RuntimeOptions {
  if (options.stateFile !== undefined || options.cacheDir === undefined) return options;
  const { models = [], modelRepository, modelConfigFile } = options;
  const places = [models.map(({ path, name }) => [resolve(path), name]), modelRepository, modelConfigFile];
  const name = createHash('sha256').update(JSON.stringify(places)).digest('hex').slice(0, 16);
  return { ...options, stateFile: join(options.cacheDir, 'state', `${name}.json`) };
}

/** Takes `traffic` over whenever the configuration file changes. Other settings wait for the next start. */
function followTraffic(
  flags: FlagTexts,
  config: ServeConfig,
  runtime: ServedRuntime,
  world: Pick<ServeWorld, 'surroundings' | 'onFileChange'>,
  logger: Logger,
): () => void {
  const file = configFileOf(flags, world.surroundings);
  if (file === undefined) return () => undefined;
  let known = JSON.stringify(config.runtime.traffic);
  const follow = async (): Promise<void> => {
    try {
      const { traffic } = loadServeConfig({ flags, surroundings: world.surroundings }).runtime;
      if (JSON.stringify(traffic) === known) return;
      await runtime.configureTraffic(traffic);
      known = JSON.stringify(traffic);
      logger.info({ file }, 'traffic goes by what the changed configuration file says');
    } catch (error) {
      logger.error(
        { file, code: errorToData(error).code },
        `the configuration file has changed, and traffic goes on as before: ${messageOf(error)}`,
      );
    }
  };
  let last = Promise.resolve();
  return world.onFileChange(file, () => {
    last = last.then(follow);
  });
}

/**
 * The runtime's options with `./models`, and with what monitors bring elsewhere, where no place was given; undefined where
 * those are missing too.
 */
async function withModels(config: ServeConfig, workingDir: string): Promise<RuntimeOptions | undefined> {
  const { runtime } = config;
  const { models, modelRepository: given, modelConfigFile, monitors } = runtime;
  if (models.length > 0 || given !== undefined || modelConfigFile !== undefined) return runtime;
  const modelRepository = resolve(workingDir, 'models');
  const isThere = await stat(modelRepository).then(
    (found) => found.isDirectory(),
    () => false,
  );
  const brought = monitors
    .map(({ localPath, localModelName }) => resolve(workingDir, localPath, localModelName))
    .filter((path) => !isThere || dirname(path) !== modelRepository);
  if (!isThere && brought.length === 0) return undefined;
  return {
    ...runtime,
    models: brought.map((path) => ({ path })),
    ...(isThere ? { modelRepository } : {}),
  };
}

const nothingGivenText = `Nothing to serve: no --model, no --model_repository and no --model_config_file was given, and there is no directory ./models.

Give a model:        onnx-serving serve --model path/to/model.onnx
or several:          onnx-serving serve --model path/to/ranker --model path/to/scorer
or a directory of    onnx-serving serve --model_repository path/to/models
model directories:
or what TF Serving   onnx-serving serve --model_config_file path/to/models.config
was told:
or an address:       onnx-serving serve --model https://host/ranker.onnx
Help:                onnx-serving serve --help
`;

/** With loading by request a repository may fill later, and so may a list of models. */
function mayStartEmpty({ runtime }: ServeConfig): boolean {
  const mayFill = runtime.modelRepository !== undefined || runtime.modelConfigFile !== undefined;
  return runtime.modelControl === 'explicit' && mayFill;
}

/** Whether the repository, or the file that lists models, cannot be read. */
function isUnreadablePlace(
  error: unknown,
  { modelRepository, modelConfigFile }: RuntimeOptions,
): error is ServingError {
  if (!(error instanceof ServingError) || error.code !== 'SRV_IO') return false;
  return [modelRepository, modelConfigFile].some(
    (place) => place !== undefined && error.details?.path === resolve(place),
  );
}

async function listen(app: ServedApp, { server }: ServeConfig): Promise<void> {
  try {
    await app.listen({ host: server.host, port: server.port });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EADDRINUSE') {
      throw new ServingError(
        'SRV_PORT_IN_USE',
        `Port ${server.port} of ${server.host} is taken by another process. Stop it, or choose another with --port (0 takes a free one).`,
        { cause },
      );
    }
    throw new ServingError(
      'SRV_IO',
      `Cannot listen on ${server.host}, port ${server.port}: ${messageOf(cause)}.`,
      { cause },
    );
  }
}

function urlOf(app: ServedApp, host: string): string {
  const address = app.server.address();
  const port = typeof address === 'object' && address !== null ? address.port : address;
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** The examples of the models' settings, ready to be pasted into a shell. */
function examplesText(runtime: ServedRuntime, url: string): string {
  return runtime
    .listModels()
    .flatMap(({ name, state, example }) => {
      if (state !== 'ready' || !example) return [];
      const path = `${url}/v2/models/${encodeURIComponent(name)}/infer`;
      // A quote within single quotes ends them, stands escaped and opens them again.
      const body = JSON.stringify(example.request).replaceAll("'", "'\\''");
      return [`\nTry it:\n\n  curl -s ${path} -d '${body}'\n\nIt answers ${example.meaning}.\n`];
    })
    .join('');
}

interface StopRequests {
  /** The name of the signal that came first. */
  readonly first: Promise<string>;
  /** Resolves when a second one comes. */
  readonly second: Promise<'hurried'>;
  readonly unwatch: () => void;
}

function watchStopRequests(world: Pick<ServeWorld, 'onStopRequest'>): StopRequests {
  const listeners: ((signal: string) => void)[] = [];
  const first = new Promise<string>((done) => listeners.push(done));
  const second = new Promise<'hurried'>((done) => listeners.push(() => done('hurried')));
  const unwatch = world.onStopRequest((signal) => listeners.shift()?.(signal));
  return { first, second, unwatch };
}

/**
 * Reports not ready and goes on serving for a while, then lets accepted requests finish, first those of the server,
 * then those of the runtime. When time is up or a second signal comes, connections are cut, but a run in the engine
 * is awaited all the same: ending a thread inside one aborts the process.
 */
async function drain(
  app: ServedApp,
  runtime: ServedRuntime,
  {
    drainDelayMs,
    drainTimeoutMs: timeoutMs,
  }: Pick<ServeConfig['runtime'], 'drainDelayMs' | 'drainTimeoutMs'>,
  world: Pick<ServeWorld, 'pause'>,
  { second }: StopRequests,
  logger: Logger,
): Promise<ServeOutcome> {
  runtime.drain();
  if (drainDelayMs > 0) await Promise.race([world.pause(drainDelayMs), second]);
  const finish = async (): Promise<'finished'> => {
    await app.close();
    await runtime.close({ timeoutMs });
    return 'finished';
  };
  const finished = finish();
  const late = world.pause(timeoutMs).then(() => 'late' as const);
  const ending = await Promise.race([finished, late, second]);
  if (ending === 'finished') {
    logger.info('drained');
    return 'drained';
  }
  logger.error(
    ending === 'late'
      ? `the drain did not end in ${timeoutMs} ms: the requests that are left are cut off`
      : 'a second signal came: the requests that are left are cut off',
  );
  app.server.closeAllConnections();
  await runtime.close({ timeoutMs: 0 });
  await finished;
  return 'cut-short';
}
