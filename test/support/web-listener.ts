/** A web server of a test on a free port of the loopback, in the clear or over TLS. */
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { packageRoot } from './server-process.js';

const directory = join(packageRoot, 'test/fixtures/tls');

/** One of the certificates of `test/fixtures/tls`. */
export type Certificate = 'localhost' | 'other-host' | 'expired';

/** The authority that all of them are of. */
export const authorityFile = join(directory, 'ca.pem');

/** Where a certificate lies; all have one key. */
export function certificateFiles(certificate: Certificate): { readonly cert: string; readonly key: string } {
  return { cert: join(directory, `${certificate}.pem`), key: join(directory, 'server.key') };
}

/** Listens; the address has no slash at its end. */
export async function listen(
  onRequest: RequestListener,
  certificate?: Certificate,
): Promise<{ readonly address: string; close(): Promise<void> }> {
  const files = certificate && certificateFiles(certificate);
  const server = files
    ? createSecureServer({ cert: readFileSync(files.cert), key: readFileSync(files.key) }, onRequest)
    : createServer(onRequest);
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  return {
    address: files ? `https://localhost:${port}` : `http://127.0.0.1:${port}`,
    close: () =>
      new Promise((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
}
