/**
 * A click model as one writes it first: JSON.parse or the binary extension, rows in one Float32Array found through
 * Maps, `session.run` on the main thread. Arguments: `http` for node:http alone or `fastify`, model file, rows as a
 * NumPy file (row i has the id i).
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { engineOptions } from './engine-options.js';
import { announce, announcePort, contestantFront } from './oip-front.js';

const slots = 26;
const denseInputs = 13;
const dim = 16;
/** A Map takes 2^24 keys and no more, so each has the ids of one range. */
const idsAMap = 2 ** 24;

const [front, modelFile, rowsFile] = process.argv.slice(2);
const rows = readRows(rowsFile!);
const rowOfId = mapsOf(rows.length / dim);
const session = await InferenceSession.create(modelFile!, engineOptions);

if (front === 'fastify') {
  const app = contestantFront();
  app.post('/v2/models/ctr/infer', async (request, reply) => {
    const { headers, body } = await answer(request.headers, request.body as Buffer);
    return reply.headers(headers).send(body);
  });
  await announce(app);
} else {
  const server = createServer({ keepAliveTimeout: 72_000 }, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      answer(request.headers, chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)).then(
        ({ headers, body }) => response.writeHead(200, headers).end(body),
        (error: unknown) => response.writeHead(500).end(String(error)),
      );
    });
  });
  server.listen(0, '127.0.0.1', () => announcePort(server));
}

interface Reply {
  readonly headers: Record<string, string>;
  readonly body: string | Buffer;
}

interface Row {
  readonly ids: ArrayLike<number | bigint>;
  readonly dense: Float32Array;
}

async function answer(headers: IncomingHttpHeaders, content: Buffer): Promise<Reply> {
  const headerLength = headers['inference-header-content-length'] as string | undefined;
  const { ids, dense } =
    headerLength === undefined ? readJson(content) : readBinary(content, Number(headerLength));
  const embeddings = new Float32Array(slots * dim);
  for (let slot = 0; slot < slots; slot++) {
    const id = Number(ids[slot]!);
    const row = rowOfId[Math.floor(id / idsAMap)]?.get(id);
    // An id that is not there has a row of zeros.
    if (row !== undefined) embeddings.set(rows.subarray(row * dim, row * dim + dim), slot * dim);
  }
  const { ctr } = await session.run({
    embeddings: new Tensor('float32', embeddings, [1, slots, dim]),
    dense: new Tensor('float32', dense, [1, denseInputs]),
  });
  const data = ctr!.data as Float32Array;
  return headerLength === undefined ? jsonReply(data) : binaryReply(data);
}

function readJson(body: Buffer): Row {
  const { inputs } = JSON.parse(body.toString('utf8')) as {
    readonly inputs: readonly { readonly name: string; readonly data: readonly number[] }[];
  };
  const named = (name: string): readonly number[] => inputs.find((input) => input.name === name)!.data;
  return { ids: named('ids'), dense: Float32Array.from(named('dense')) };
}

function readBinary(body: Buffer, headerLength: number): Row {
  const { inputs } = JSON.parse(body.toString('utf8', 0, headerLength)) as {
    readonly inputs: readonly {
      readonly name: string;
      readonly parameters: { readonly binary_data_size: number };
    }[];
  };
  // A copy of its own begins where elements of any width may.
  const bytes = Uint8Array.prototype.slice.call(body, headerLength).buffer;
  const places: Record<string, number> = {};
  let at = 0;
  for (const { name, parameters } of inputs) {
    places[name] = at;
    at += parameters.binary_data_size;
  }
  return {
    ids: new BigInt64Array(bytes, places.ids!, slots),
    dense: new Float32Array(bytes, places.dense!, denseInputs),
  };
}

const replyHead = { model_name: 'ctr', model_version: '1' };
const output = { name: 'ctr', datatype: 'FP32', shape: [1, 1] };

function jsonReply(data: Float32Array): Reply {
  const body = JSON.stringify({ ...replyHead, outputs: [{ ...output, data: Array.from(data) }] });
  return {
    headers: { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) },
    body,
  };
}

function binaryReply(data: Float32Array): Reply {
  const parameters = { binary_data_size: data.byteLength };
  const header = Buffer.from(JSON.stringify({ ...replyHead, outputs: [{ ...output, parameters }] }));
  const body = Buffer.concat([header, Buffer.from(data.buffer, data.byteOffset, data.byteLength)]);
  return {
    headers: {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': String(header.length),
      'content-length': String(body.length),
    },
    body,
  };
}

/** Reads the numbers of a NumPy file of format 1.0. */
function readRows(path: string): Float32Array {
  const file = openSync(path, 'r');
  try {
    const prefix = Buffer.alloc(10);
    readSync(file, prefix, 0, 10, 0);
    const header = Buffer.alloc(prefix.readUInt16LE(8));
    readSync(file, header, 0, header.length, 10);
    const [, count, width] = /'shape': \((\d+), (\d+)\)/.exec(header.toString('latin1'))!;
    if (Number(width) !== dim) throw new Error(`${path} has rows of ${width} numbers; expected ${dim}`);
    const values = new Float32Array(Number(count) * dim);
    const bytes = new Uint8Array(values.buffer);
    for (let at = 0; at < bytes.length; ) {
      const room = Math.min(bytes.length - at, 1 << 28);
      at += readSync(file, bytes, at, room, 10 + header.length + at);
    }
    return values;
  } finally {
    closeSync(file);
  }
}

function mapsOf(count: number): Map<number, number>[] {
  return Array.from({ length: Math.ceil(count / idsAMap) }, (_, part) => {
    const map = new Map<number, number>();
    const end = Math.min(count, (part + 1) * idsAMap);
    for (let id = part * idsAMap; id < end; id++) map.set(id, id);
    return map;
  });
}
