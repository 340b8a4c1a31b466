import http from 'node:http';
import type { AddressInfo } from 'node:net';

/** What the fake answers to an inference request. */
export interface FakeReply {
  readonly status: number;
  readonly body?: string;
  readonly delayMs?: number;
  /** Ends the connection without an answer. */
  readonly cut?: boolean;
}

/** A request as the fake saw it. */
export interface SeenRequest {
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

/** An Open Inference Protocol server with one model, whose answers a test decides. */
export interface FakeServer {
  readonly url: string;
  readonly seen: SeenRequest[];
  close(): Promise<void>;
}

const okBody = '{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1]}]}';

/** Starts the fake on a free loopback port. Its statistics count 1 us of queue and 2 us of run a request. */
export async function startFakeServer(
  reply: (index: number) => FakeReply = () => ({ status: 200 }),
  inputs: readonly object[] = [{ name: 'x', datatype: 'FP32', shape: [-1, 4] }],
): Promise<FakeServer> {
  const seen: SeenRequest[] = [];
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      if (request.url === '/v2/models/m') {
        response.end(JSON.stringify({ name: 'm', platform: 'onnx_onnxv1', inputs, outputs: [] }));
      } else if (request.url === '/v2/models/m/stats') {
        response.end(JSON.stringify(statistics(seen.length)));
      } else if (request.url === '/v2/models/m/infer') {
        const { status, body, delayMs, cut } = reply(seen.length);
        seen.push({ headers: request.headers, body: Buffer.concat(chunks) });
        if (cut) {
          request.socket.destroy();
          return;
        }
        response.statusCode = status;
        const send = (): void => void response.end(body ?? (status === 200 ? okBody : '{"error":"no"}'));
        if (delayMs) setTimeout(send, delayMs).unref();
        else send();
      } else {
        response.statusCode = 404;
        response.end('{"error":"Request for unknown model: nothing"}');
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function statistics(count: number): object {
  const duration = (us: number): object => ({ count, ns: count * us * 1000 });
  return {
    model_stats: [
      {
        name: 'm',
        version: '1',
        inference_count: count * 2,
        execution_count: count,
        inference_stats: {
          success: duration(4),
          fail: { count: 0, ns: 0 },
          queue: duration(1),
          compute_input: duration(0.5),
          compute_infer: duration(2),
          compute_output: duration(0.5),
        },
      },
    ],
  };
}
