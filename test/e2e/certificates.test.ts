/** Models and publications over TLS, with certificates of an authority that this machine does not know. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Publisher } from '../../src/publish/publisher.js';
import { openStoreAt } from '../../src/remote/open-store.js';
import { call, json, jsonInput } from '../support/http-call.js';
import { type PutServer, startPutServer } from '../support/put-server.js';
import { startPythonPeer } from '../support/python-peers.js';
import { ServerProcess } from '../support/server-process.js';
import { makeDirectory, placeModel, removeDirectory, scaleModel } from '../support/test-models.js';
import { authorityFile, certificateFiles } from '../support/web-listener.js';

/** Read when a process starts, so each trusting party is a process of its own. */
const trusting = { NODE_EXTRA_CA_CERTS: authorityFile };
const root = makeDirectory('certificates');
const store = join(root, 'store');
let server: PutServer;
before(async () => {
  mkdirSync(store);
  writeFileSync(join(store, 'done'), 'x');
  server = await startPutServer(store, 'localhost');
});
after(async () => {
  await server.close();
  removeDirectory(root);
});

/** What a process that trusts the authority is told at these addresses. */
async function answersAt(...addresses: string[]): Promise<string[]> {
  const program = fileURLToPath(new URL('../fixtures/ask-addresses.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...addresses], {
    env: { ...process.env, ...trusting },
  });
  return JSON.parse(stdout) as string[];
}

const untrusted =
  /its certificate is not trusted: .+; where it is of an authority of your own, start this process with NODE_EXTRA_CA_CERTS=FILE/;

test('with NODE_EXTRA_CA_CERTS a model is published, fetched by a monitor, and served from its https address', async (t) => {
  const place = ['--general_host', server.address, '--remote_path', '/models'];
  const model = placeModel(root, 'ranker', scaleModel(3));
  const publishing = new ServerProcess(t, ['publish', model, '--to', 'http', '--pack', 'tar.gz', ...place], {
    env: trusting,
  });
  assert.equal(await publishing.ended, 0, publishing.text);
  const monitor = new ServerProcess(
    t,
    [
      ...['monitor', '--once', ...place, '--remote_model_name', 'ranker.tar.gz'],
      ...['--remote_donefile_name', 'ranker.done', '--local_path', join(root, 'local')],
      ...['--local_model_name', 'ranker'],
    ],
    { env: trusting },
  );
  const serving = new ServerProcess(
    t,
    [
      ...['serve', '--model', `${server.address}/models/ranker.tar.gz`, '--port', '0', '--thread', '1'],
      ...['--cache_dir', join(root, 'cache')],
    ],
    { env: trusting },
  );
  assert.equal(await monitor.ended, 0, monitor.text);
  assert.deepEqual(
    readFileSync(join(root, 'local/ranker/model.onnx')),
    readFileSync(join(model, 'model.onnx')),
  );
  const answer = await call(`${await serving.listening()}/v2/models/ranker/infer`, {
    body: { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] },
  });
  assert.deepEqual(json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data, [3, 6, 9, 12]);
});

test('without it nothing is fetched and nothing is sent, and the error says what helps', async () => {
  const asked = server.requests.length;
  const reader = openStoreAt(server.address);
  await assert.rejects(reader.stampOf('/done'), { code: 'SRV_REMOTE_UNAVAILABLE', message: untrusted });
  await assert.rejects(reader.stampOf('/done'), (error: Error) =>
    error.message.startsWith(`${server.address}/done: its certificate`),
  );
  await reader.close();
  const model = placeModel(root, 'secret', scaleModel(1));
  const publisher = new Publisher(model, { to: 'http', generalHost: server.address, remotePath: '/models' });
  await assert.rejects(publisher.publish(), { code: 'SRV_REMOTE_UNAVAILABLE', message: untrusted });
  assert.equal(server.requests.length, asked);
  assert.equal(existsSync(join(store, 'models/secret.done')), false);
});

test('a certificate that is over, or that is for another host, is refused although its authority is trusted', async (t) => {
  const servers = await Promise.all(
    (['expired', 'other-host'] as const).map((certificate) => startPutServer(store, certificate)),
  );
  t.after(() => Promise.all(servers.map((one) => one.close())));
  const [good, expired, other] = await answersAt(server.address, ...servers.map((one) => one.address));
  assert.equal(good, 'there');
  assert.match(
    expired!,
    /\/done: its certificate is not valid now: certificate has expired; it must be renewed/,
  );
  assert.match(
    other!,
    /\/done: its certificate is for another host: .*localhost.*models\.example; expected an address with a name/,
  );
  assert.deepEqual(
    servers.flatMap(({ requests }) => requests),
    [],
  );
});

test('an FTP server with such a certificate is read over TLS where it is trusted, and told no password where not', async (t) => {
  const start = async (certificate: 'localhost' | 'other-host'): Promise<string> => {
    const { cert, key } = certificateFiles(certificate);
    const peer = await startPythonPeer((port) => [
      ...['-m', 'pyftpdlib', '--interface', '127.0.0.1', '--port', String(port), '--directory', store],
      ...['--username', 'trainer', '--password', 'secret-word'],
      ...['--tls', '--certfile', cert, '--keyfile', key, '--tls-control-required', '--tls-data-required'],
    ]);
    t.after(peer.close);
    return `ftps://trainer:secret-word@localhost:${peer.port}`;
  };
  const [address, other] = await Promise.all([start('localhost'), start('other-host')]);
  const [good, refused] = await answersAt(address, other);
  assert.equal(good, 'there');
  assert.match(refused!, /^ftps:\/\/trainer@localhost:\d+\/done: its certificate is for another host/);
  const reader = openStoreAt(address);
  t.after(() => reader.close());
  await assert.rejects(reader.stampOf('/done'), (error: Error & { code?: string }) => {
    assert.equal(error.code, 'SRV_REMOTE_UNAVAILABLE');
    assert.match(error.message, untrusted);
    assert.doesNotMatch(error.message, /secret-word/);
    return true;
  });
  assert.ok(readdirSync(store).includes('done'));
});
