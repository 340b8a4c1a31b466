/** `publish`: brings a model or a table from here to where monitors fetch it. */
import { basename } from 'node:path';
import type { Command } from 'commander';
import { readSurroundings, resolveLogConfig } from '../config/load.js';
import { publishSettings } from '../config/publish-settings.js';
import { publishEnvPrefix } from '../config/sources.js';
import { openFetchMeter, sizeText } from './fetch-meter.js';
import { openLog } from './log-output.js';
import { givenOptions, logFormatOption, settingOption } from './setting-options.js';
import { untilSignal } from './until-signal.js';

/**
 * Adds `publish` to the program. Without `--watch` it throws what `Publisher.publish` does.
 *
 * @param stdout where the summary goes
 * @param stderr where the log and the progress go
 */
export function registerPublish(
  program: Command,
  stdout: { write(text: string): unknown } = process.stdout,
  stderr: NodeJS.WriteStream = process.stderr,
): void {
  const command = program
    .command('publish')
    .description('Put a model or a table where monitors fetch it: digests beside it, the done file last.')
    .argument('<dir>', 'directory of a model or of a table, or a .onnx file')
    .allowExcessArguments(false)
    .addHelpText('after', notes);
  // A switch takes no value, which would be the directory that follows it.
  for (const setting of publishSettings) command.addOption(settingOption(setting, ''));
  command.addOption(logFormatOption());
  command.action((directory: string, flags: Readonly<Record<string, unknown>>) =>
    runPublish(directory, flags, stdout, stderr),
  );
}

async function runPublish(
  directory: string,
  flags: Readonly<Record<string, unknown>>,
  stdout: { write(text: string): unknown },
  stderr: NodeJS.WriteStream,
): Promise<void> {
  // Loaded here, so that --help does not load the addon.
  const { Publisher } = await import('../publish/publisher.js');
  const surroundings = readSurroundings();
  const format = flags.log_format as 'pretty' | 'json' | undefined;
  const options = publishOptionsOf(flags, surroundings.env);
  const isWatching = options.watch === true;
  const log = openLog(
    resolveLogConfig({ level: isWatching ? 'info' : 'warn', format }, surroundings),
    stderr,
  );
  const meter = openFetchMeter(stderr, 'sending');
  try {
    const publisher = new Publisher(directory, options, {
      logger: log.logger,
      ...(meter
        ? { onProgress: (progress) => meter(progress === undefined ? undefined : { ...progress, files: 1 }) }
        : {}),
    });
    await untilSignal(async (signal) => {
      if (isWatching) {
        await publisher.run(signal);
        return;
      }
      const { bytes, files, version } = await publisher.publish(signal);
      const what = `${basename(directory)}${version === undefined ? '' : ` version ${version}`}`;
      stdout.write(
        `${what}: ${files === 1 ? '1 file' : `${files} files`} published, ${sizeText(bytes)} sent\n`,
      );
    });
  } finally {
    log.close();
  }
}

/** The options of a publisher from flags, and from the environment where there is no flag. */
export function publishOptionsOf(
  flags: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): Record<string, unknown> {
  return givenOptions(publishSettings, flags, env, publishEnvPrefix);
}

const notes = `
Settings
  Every option is also an environment variable, ONNX_SERVING_PUBLISH_ and the name in capitals, which keeps passwords
  out of the list of processes: ONNX_SERVING_PUBLISH_FTP_PASSWORD. A flag wins. Buckets take their credentials from
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL_S3 (oss:// from OSS_ACCESS_KEY_ID,
  OSS_ACCESS_KEY_SECRET, OSS_REGION, OSS_ENDPOINT).

Examples
  onnx-serving publish models/ctr --to file --remote_path /mnt/models
  onnx-serving publish models/ctr --to s3 --general_host s3://bucket --remote_path /models --watch
  onnx-serving publish tables/user --to ftp --ftp_host files --remote_path /tables
  onnx-serving monitor --type local --remote_path /mnt/models --remote_model_name ctr.tar.gz \\
    --remote_donefile_name ctr.done --local_path /srv/models --local_model_name ctr
`;
