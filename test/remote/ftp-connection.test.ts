import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { resolvePublishConfig } from '../../src/config/publish-settings.js';
import { openTarget } from '../../src/publish/open-target.js';
import { FtpConnection, readFtpAddress } from '../../src/remote/ftp-connection.js';

for (const [address, access, label] of [
  ['files', { host: 'files' }, 'ftp://files'],
  ['ftp://files:2121/models', { host: 'files', port: 2121, directory: '/models' }, 'ftp://files:2121/models'],
  ['ftp://me:p%40ss@files', { host: 'files', username: 'me', password: 'p@ss' }, 'ftp://me@files'],
  ['ftps://files', { host: 'files', tls: 'explicit' }, 'ftps://files'],
  ['ftps://[::1]:990', { host: '::1', port: 990, tls: 'implicit' }, 'ftps://[::1]:990'],
] as const) {
  test(`${address} is an address, and no password is shown`, () => {
    const read = readFtpAddress(address);
    assert.deepEqual(read, access);
    assert.equal(new FtpConnection(read).label, label);
  });
}

test('a port of the options counts where the address has none, a user of the options always', () => {
  const options = { port: 990, username: 'me', password: 'mine' };
  assert.deepEqual(readFtpAddress('ftps://you:yours@files', options), {
    host: 'files',
    port: 990,
    username: 'me',
    password: 'mine',
    tls: 'implicit',
  });
  assert.equal(readFtpAddress('files:2121', options).port, 2121);
});

test('a login that was refused once is tried anew, and its reason is told', async (t) => {
  let logins = 0;
  const server = createServer((socket) => {
    let isIn = false;
    socket.on('error', () => undefined);
    socket.write('220 hello\r\n');
    createInterface({ input: socket }).on('line', (line) => {
      const [command] = line.split(' ');
      const login = (): string => {
        isIn = ++logins > 1;
        return isIn ? '230 welcome' : '530 too many users';
      };
      const answers: Record<string, () => string> = {
        USER: () => '331 password?',
        PASS: login,
        PWD: () => (isIn ? '257 "/home"' : '530 log in first'),
        FEAT: () => '502 none',
      };
      socket.write(`${(answers[command!] ?? (() => '200 ok'))()}\r\n`);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const connection = new FtpConnection({ host: '127.0.0.1', port });
  t.after(() => {
    connection.close();
    server.close();
  });
  const ask = () => connection.ask('/x', undefined, async (client) => client.pwd());
  await assert.rejects(ask(), { code: 'SRV_REMOTE_REFUSED', message: /too many users/ });
  assert.equal(await ask(), '/home');
  connection.close();
  await assert.rejects(ask(), { code: 'SRV_CANCELLED' });
});

for (const address of ['http://files', 'ftp://', 'a b', 'ftp://me:secret@files:x']) {
  test(`${JSON.stringify(address)} is no address`, () => {
    assert.throws(() => readFtpAddress(address), {
      code: 'SRV_BAD_CONFIG',
      message: /^Expected a host, ftp:\/\/host or ftps:\/\/host, got (?!.*secret)/,
    });
  });
}

test('to publish, a path belongs into remote_path', () => {
  const config = resolvePublishConfig({ to: 'ftp', remotePath: '/models', ftpHost: 'ftp://files/models' });
  assert.throws(() => openTarget(config), { code: 'SRV_BAD_CONFIG', message: /the path \/models/ });
});
