/** `warmup record` and `warmup make`: files of requests, of live traffic or of what lies on disk. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { messageOf, ServingError } from '../errors.js';
import type { NamedTensor } from '../server/service.js';
import type { RequestToWrite } from '../warmup/write-requests.js';

type Output = { write(text: string): unknown };

const spareMs = 30_000;

interface RecordFlags {
  readonly url: string;
  readonly model: string;
  readonly count: number;
  readonly seconds?: number;
  readonly out?: string;
}

interface MakeFlags {
  readonly out: string;
  readonly input?: readonly InputFlag[];
  readonly output?: readonly string[];
  readonly rows?: number;
}

interface InputFlag {
  readonly name: string;
  readonly file: string;
}

/** Adds `record` and `make` to `warmup`. */
export function registerWarmUpMake(warmUp: Command, stdout: Output = process.stdout): void {
  warmUp
    .command('record')
    .description("Record a uniform sample of a running server's requests to a model.")
    .requiredOption('--url <url>', 'the server, such as http://127.0.0.1:9292')
    .requiredOption('--model <name>', 'the model')
    .addOption(new Option('--count <n>', 'requests at most').argParser(wholeNumber).default(100))
    .addOption(
      new Option(
        '--seconds <n>',
        'how long to take part in what comes (default: the sample that the server keeps, --record_warmup)',
      ).argParser(wholeNumber),
    )
    .option(
      '--out <file>',
      "a .bin file on this machine (default: the server's own, beside the model, which the next version finds)",
    )
    .action(async (flags: RecordFlags) => {
      stdout.write(await recordTraffic(flags));
    });
  warmUp
    .command('make')
    .description('Make a file of requests out of NumPy arrays, or of other files of requests.')
    .argument('[file...]', 'files of requests in any form that is read (.json, .jsonl, .bin, .pb, .tfrecord)')
    .requiredOption('--out <file>', 'the file to write: .bin (tensors in binary), .jsonl or .json')
    .option('--input <name=file.npy>', 'an array as an input; repeat it for more', collectInput)
    .option('--output <name>', 'an output to ask for; repeat it for more (default: all)', collect)
    .addOption(
      new Option('--rows <n>', 'rows of each request made of arrays (default: all in one)').argParser(
        wholeNumber,
      ),
    )
    .action(async (files: readonly string[], flags: MakeFlags) => {
      const { writeRequests } = await import('../warmup/write-requests.js');
      const requests = [...(await fromFiles(files, flags)), ...(await fromArrays(flags))];
      if (requests.length === 0) {
        throw new ServingError(
          'SRV_BAD_CONFIG',
          'warmup make: give files of requests, or arrays with --input',
        );
      }
      await writeRequests(flags.out, requests);
      stdout.write(`${flags.out}: ${requests.length} requests\n`);
    });
}

async function recordTraffic(flags: RecordFlags): Promise<string> {
  const { url, model, out } = flags;
  const { formatOf } = await import('../warmup/read-requests.js');
  if (out !== undefined && formatOf(out) !== 'binary') {
    throw new ServingError('SRV_BAD_CONFIG', `--out ${out}: recorded requests are written into .bin files`);
  }
  const { headers, bytes } = await askForSample(flags);
  const requests = Number(headers.get('warm-up-requests'));
  if (requests === 0) {
    throw new ServingError(
      'SRV_IO',
      `${url}: no request to '${model}' came, or none that fits into the sample; nothing was written`,
    );
  }
  const what = `${requests} of ${headers.get('warm-up-seen')} requests, ${bytes.length} bytes`;
  const kept = headers.get('warm-up-file');
  if (kept !== null) {
    return `${decodeURIComponent(kept)} of the server: ${what}, for the next version of ${model}\n`;
  }
  const { writeWhole } = await import('../warmup/write-requests.js');
  const file = out ?? `${model.replaceAll('/', '_')}.bin`;
  await writeWhole(file, bytes);
  if (out !== undefined) return `${file}: ${what}\n`;
  const reason = decodeURIComponent(headers.get('warm-up-failure') ?? 'it does not say why');
  return `${file}: ${what}; it is here because the server cannot keep it beside the model: ${reason}\n`;
}

/** Asks a server for a sample, and to keep it where no file is named for it. */
async function askForSample({
  url,
  model,
  count,
  seconds,
  out,
}: RecordFlags): Promise<{ readonly headers: Headers; readonly bytes: Buffer }> {
  const query = `count=${count}${seconds === undefined ? '' : `&seconds=${seconds}`}`;
  let reply: Response;
  let bytes: Buffer;
  try {
    reply = await fetch(`${url.replace(/\/$/, '')}/v2/models/${encodeURIComponent(model)}/warmup?${query}`, {
      method: out === undefined ? 'POST' : 'GET',
      signal: AbortSignal.timeout((seconds ?? 0) * 1000 + spareMs),
    });
    bytes = Buffer.from(await reply.arrayBuffer());
  } catch (cause) {
    const reason = (cause as { cause?: unknown }).cause ?? cause;
    throw new ServingError('SRV_IO', `${url} cannot be asked: ${messageOf(reason)}`, { cause });
  }
  if (reply.status === 200) return { headers: reply.headers, bytes };
  throw new ServingError(
    'SRV_IO',
    `${url} answered ${reply.status}: ${bytes.toString('utf8').slice(0, 500)}`,
  );
}

async function fromFiles(files: readonly string[], { output }: MakeFlags): Promise<RequestToWrite[]> {
  const { readRequests } = await import('../warmup/read-requests.js');
  const { placeText } = await import('../warmup/request.js');
  const made: RequestToWrite[] = [];
  for (const file of files) {
    for (const { content, outputs, place } of (await readRequests(file)).requests) {
      if (content.kind !== 'tensors') {
        throw new ServingError(
          'SRV_BAD_CONFIG',
          `${placeText(place)}: a line of text has no name of an input; it is used as it is, as a .txt file`,
        );
      }
      made.push({ inputs: content.inputs, outputs: output ?? outputs });
    }
  }
  return made;
}

async function fromArrays({ input = [], output, rows }: MakeFlags): Promise<RequestToWrite[]> {
  const { readNpy } = await import('../warmup/npy-file.js');
  const { requestsOfArrays } = await import('../warmup/make-requests.js');
  const inputs: NamedTensor[] = [];
  for (const { name, file } of input) inputs.push({ name, tensor: await readNpy(file) });
  return requestsOfArrays(inputs, { rows, outputs: output });
}

function collectInput(text: string, before: readonly InputFlag[] = []): readonly InputFlag[] {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1) throw new InvalidArgumentError('Expected NAME=FILE.npy.');
  return [...before, { name: text.slice(0, at), file: text.slice(at + 1) }];
}

function collect(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/** A whole number of at least 1. */
export function wholeNumber(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Expected a whole number of at least 1.');
}
