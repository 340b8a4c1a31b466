/** An existing Fastify service that serves models under a prefix, and runs one itself in a route of its own. */
import { fileURLToPath } from 'node:url';
import Fastify from 'fastify';
import { openRuntime, servingPlugin, tensor } from '../../src/index.js';

const path = fileURLToPath(new URL('../../../examples/ring/model.onnx', import.meta.url));

const runtime = await openRuntime({ models: [{ path, name: 'ring' }], threads: 1 });
const app = Fastify();
// Not ready is reported from the first moment of the end; the runtime closes when the last request is answered.
app.addHook('preClose', async () => runtime.service.drain());
app.addHook('onClose', () => runtime.close());
await app.register(servingPlugin, { prefix: '/models', runtime, server: { maxBodySize: '1mb' } });

app.get<{ Querystring: { x: string; y: string } }>('/inside', async ({ query }) => {
  const point = tensor('FP32', [1, 2], [Number(query.x), Number(query.y)]);
  const { outputs } = await runtime.infer('ring', { point });
  return { inside: Number(outputs.probability!.data[0]) > 0.5 };
});

const port = Number(process.env.PORT ?? 3000);
console.log(`listening on ${await app.listen({ host: '127.0.0.1', port })}`);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void app.close());
