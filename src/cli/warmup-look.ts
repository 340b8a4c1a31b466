/** `warmup show` and `warmup verify`: what files of requests hold, and whether a model answers them. */
import { readFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { isAddress } from '../config/place.js';
import { errorToData, messageOf, ServingError } from '../errors.js';
import { requirePlace } from '../repository/layout.js';
import type { NamedTensor } from '../server/service.js';
import type { Signature, Tensor, TensorSpec } from '../tensor/tensor.js';
import { formatOf, readRequests } from '../warmup/read-requests.js';
import { placeText, tensorsOf, type WarmUpRequest } from '../warmup/request.js';
import { durationText, tensorText } from './table-text.js';
import { wholeNumber } from './warmup-make.js';

type Output = { write(text: string): unknown };

const shownValues = 6;

interface VerifyFlags {
  readonly model?: string;
  readonly url?: string;
  readonly name?: string;
}

/** Adds `show` and `verify` to `warmup`. */
export function registerWarmUpLooks(warmUp: Command, stdout: Output = process.stdout): void {
  warmUp
    .command('show')
    .description('Print the requests of files: inputs, shapes, first values, wanted outputs.')
    .argument('<place>', 'a file, a directory of files, or an http, https, s3 or oss URL')
    .addOption(new Option('--limit <n>', 'requests to print').argParser(wholeNumber).default(20))
    .option('--json', 'print JSON, one request a line, with all values')
    .action(async (place: string, flags: { readonly limit: number; readonly json?: boolean }) => {
      stdout.write(await showRequests(place, flags));
    });
  warmUp
    .command('verify')
    .description('Run every request of files and tell which fail. Ends with 1 when one does.')
    .argument('<place>', 'a file, a directory of files, or an http, https, s3 or oss URL')
    .option('--model <path>', 'run them on this model, in this process')
    .option('--url <url>', 'send them to this server')
    .option('--name <name>', 'the model of the server')
    .action(async (place: string, flags: VerifyFlags) => {
      if (!(await verifyRequests(place, flags, stdout))) process.exitCode = 1;
    });
}

async function showRequests(
  place: string,
  { limit, json }: { readonly limit: number; readonly json?: boolean },
): Promise<string> {
  const { requests, batchSizes } = await readRequests(place);
  if (json) return requests.map((request) => `${jsonOf(request)}\n`).join('');
  const lines = requests.slice(0, limit).map(describe);
  if (requests.length > limit) lines.push(`... and ${requests.length - limit} more`);
  if (batchSizes.length > 0) {
    lines.push(`batches of this traffic had ${batchSizes.toSorted((a, b) => a - b).join(', ')} rows`);
  }
  lines.push(...(await curlHint(place)));
  return `${lines.join('\n')}\n`;
}

function describe({ place, content, outputs }: WarmUpRequest): string {
  const wanted = outputs === undefined ? '' : `\n  asks for ${outputs.join(', ')}`;
  const inputs =
    content.kind === 'text'
      ? [`  text ${JSON.stringify(content.text)}`]
      : content.inputs.map(({ name, tensor }) => {
          const { datatype, shape } = tensor;
          return `  ${tensorText({ name, datatype, shape })} ${valuesText(tensor)}`;
        });
  return `${placeText(place)}\n${inputs.join('\n')}${wanted}`;
}

function valuesText({ datatype, data }: Tensor): string {
  const first = Array.from(data.slice(0, shownValues) as ArrayLike<unknown>, (value) =>
    typeof value === 'string' ? JSON.stringify(value) : String(value),
  );
  const bits = datatype === 'FP16' || datatype === 'BF16' ? ' (bits)' : '';
  return `${first.join(' ')}${data.length > shownValues ? ' ...' : ''}${bits}`;
}

function jsonOf({ place, content, outputs }: WarmUpRequest): string {
  const exact = (_key: string, value: unknown): unknown =>
    typeof value === 'bigint' ? String(value) : value;
  const inputs =
    content.kind === 'text'
      ? { text: content.text }
      : {
          inputs: content.inputs.map(({ name, tensor: { datatype, shape, data } }) => ({
            name,
            datatype,
            shape,
            data: Array.from<unknown>(data),
          })),
        };
  return JSON.stringify({ ...place, ...inputs, ...(outputs ? { outputs } : {}) }, exact);
}

/** How a file of one binary body is posted as it is. */
async function curlHint(place: string): Promise<string[]> {
  if (isAddress(place) || formatOf(place) !== 'binary') return [];
  const bytes = await readFile(place);
  if (bytes[0] !== 0x7b) return [];
  const { bodySpans } = await import('../warmup/body-file.js');
  const [only, more] = bodySpans(place, bytes);
  if (!only || more) return [];
  const header =
    only.jsonEnd === only.end ? '' : ` -H 'Inference-Header-Content-Length: ${only.jsonEnd - only.start}'`;
  return [`post it: curl --data-binary @${place}${header} http://HOST:PORT/v2/models/NAME/infer`];
}

/** Answers a request, or throws why it cannot be answered. */
type Asker = (request: WarmUpRequest) => Promise<void>;

async function verifyRequests(place: string, flags: VerifyFlags, stdout: Output): Promise<boolean> {
  const { model, url, name } = flags;
  if ((model === undefined) === (url === undefined) || (url !== undefined) !== (name !== undefined)) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      'warmup verify: give either --model PATH, or --url URL and --name NAME',
    );
  }
  const { requests } = await readRequests(place);
  const run = async (ask: Asker): Promise<boolean> => {
    let failed = 0;
    const startedAt = performance.now();
    for (const request of requests) {
      try {
        await ask(request);
      } catch (error) {
        failed += 1;
        stdout.write(`FAILED ${placeText(request.place)}: ${errorToData(error).message}\n`);
      }
    }
    const took = durationText(performance.now() - startedAt);
    stdout.write(`${requests.length - failed} of ${requests.length} requests were answered, ${took}\n`);
    return failed === 0;
  };
  return model === undefined ? run(await serverAsker(url!, name!)) : withModel(model, run);
}

async function withModel(path: string, use: (ask: Asker) => Promise<boolean>): Promise<boolean> {
  if (!isAddress(path)) await requirePlace(path);
  const { openRuntime } = await import('../runtime.js');
  const runtime = await openRuntime({ models: [{ path }], threads: 1, warmUpCount: 0 });
  try {
    const [status] = runtime.listModels().toReversed();
    if (status?.error) throw status.error;
    const { name, signature } = runtime.service.model(status!.name);
    return await use(async ({ content, outputs }) => {
      await runtime.service.infer({
        model: name,
        inputs: tensorsOf(content, signature),
        outputs,
        protocol: 'process',
        origin: 'process',
      });
    });
  } finally {
    await runtime.close();
  }
}

async function serverAsker(url: string, name: string): Promise<Asker> {
  const base = `${url.replace(/\/$/, '')}/v2/models/${encodeURIComponent(name)}`;
  const metadata = JSON.parse((await ask(base)).toString()) as {
    readonly inputs: readonly TensorSpec[];
    readonly outputs: readonly TensorSpec[];
  };
  const signature: Signature = { inputs: metadata.inputs, outputs: metadata.outputs };
  const { encodeBinary, joinBodies } = await import('../warmup/write-requests.js');
  return async ({ content, outputs }) => {
    const inputs: readonly NamedTensor[] = tensorsOf(content, signature);
    const encoded = encodeBinary({ inputs, outputs, wantsBinary: true });
    await ask(`${base}/infer`, {
      method: 'POST',
      headers: { 'inference-header-content-length': String(Buffer.byteLength(encoded.json)) },
      body: joinBodies([encoded]),
    });
  };
}

async function ask(url: string, init: RequestInit = {}): Promise<Buffer> {
  let reply: Response;
  let bytes: Buffer;
  try {
    reply = await fetch(url, { ...init, signal: AbortSignal.timeout(60_000) });
    bytes = Buffer.from(await reply.arrayBuffer());
  } catch (cause) {
    const reason = (cause as { cause?: unknown }).cause ?? cause;
    throw new ServingError('SRV_IO', `${url} cannot be asked: ${messageOf(reason)}`, { cause });
  }
  if (reply.status === 200) return bytes;
  throw new ServingError(
    'SRV_IO',
    `${url} answered ${reply.status}: ${bytes.toString('utf8').slice(0, 500)}`,
  );
}
