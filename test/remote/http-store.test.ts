import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { parseHtmlListing, parseJsonListing } from '../../src/remote/http-listing.js';
import { HttpStore } from '../../src/remote/http-store.js';
import { type FileServer, serveFiles } from '../support/file-server.js';
import { startPythonHttp } from '../support/peers.js';
import { contentOf, hasCode, putInto, storeContract } from '../support/store-contract.js';

storeContract('a web server with ETags', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'onnx-serving-http-'));
  const server = await serveFiles(directory);
  return {
    store: new HttpStore(server.address),
    base: '/base',
    put: putInto(join(directory, 'base')),
    close: async () => {
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
});

storeContract("Python's web server, which has no ETags", async () => {
  const directory = mkdtempSync(join(tmpdir(), 'onnx-serving-python-'));
  const server = await startPythonHttp(directory);
  return {
    store: new HttpStore(server.address),
    base: '/base',
    put: putInto(join(directory, 'base')),
    close: async () => {
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
});

describe('a web server that is not as one hopes', () => {
  let directory: string;
  let server: FileServer;
  let store: HttpStore;
  let target: string;
  let fetches = 0;
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'onnx-serving-http-'));
    server = await serveFiles(directory);
    store = new HttpStore(server.address);
  });
  after(async () => {
    await store.close();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  afterEach(() => {
    server.override = () => false;
  });
  const fetch = (path: string, of = store): Promise<unknown> => {
    target = join(directory, `target-${fetches++}`);
    return of.fetch(path, target);
  };

  it('is asked for a file with an ETag only if it changed', async () => {
    writeFileSync(join(directory, 'done'), 'x');
    const first = await store.stampOf('/done');
    server.requests.length = 0;
    assert.deepEqual(await store.stampOf('/done'), first);
    assert.deepEqual(server.requests, ['GET /done 304']);
  });

  it('may offer a digest in four headers, which is compared', async () => {
    const content = 'the model';
    const sha256 = createHash('sha256').update(content).digest('base64');
    const md5 = createHash('md5').update(content).digest('base64');
    const wrong = createHash('sha256').update('another').digest('base64');
    const offers = [
      { 'repr-digest': `sha-256=:${sha256}:` },
      { 'content-digest': `sha-512=:c2hvcnQ=:, sha-256=:${sha256}:` },
      { digest: `SHA-256=${sha256},unixsum=30637` },
      { 'content-md5': md5 },
    ];
    let headers: Record<string, string> = {};
    server.override = (_request, response) => {
      response.writeHead(200, headers).end(content);
      return true;
    };
    for (const offer of offers) {
      headers = offer as Record<string, string>;
      await fetch('/model');
      assert.equal(readFileSync(target, 'utf8'), content);
      headers = Object.fromEntries(
        Object.entries(headers).map(([name, value]) => [
          name,
          value.replace(sha256, wrong).replace(md5, 'AAAAAAAAAAAAAAAAAAAAAA=='),
        ]),
      );
      await assert.rejects(fetch('/model'), (error) => {
        hasCode('SRV_REMOTE_DAMAGED')(error);
        return /the header \S+ says (sha256|md5) [\da-f]+, but the bytes that came have /.test(
          (error as Error).message,
        );
      });
    }
  });

  it('sends half a file and breaks off', async () => {
    server.override = (_request, response) => {
      response.writeHead(200, { 'content-length': 1000 });
      response.write('x'.repeat(400), () => response.destroy());
      return true;
    };
    await assert.rejects(fetch('/model'), (error) => {
      hasCode('SRV_REMOTE_UNAVAILABLE')(error);
      return /the connection broke after \d+ bytes of 1000/.test((error as Error).message);
    });
  });

  it('refuses, or fails', async () => {
    let status = 403;
    server.override = (_request, response) => {
      response.writeHead(status).end('no');
      return true;
    };
    await assert.rejects(fetch('/model'), hasCode('SRV_REMOTE_REFUSED'));
    await assert.rejects(store.stampOf('/model'), hasCode('SRV_REMOTE_REFUSED'));
    status = 500;
    await assert.rejects(fetch('/model'), hasCode('SRV_REMOTE_UNAVAILABLE'));
    await assert.rejects(store.stampOf('/model'), hasCode('SRV_REMOTE_UNAVAILABLE'));
    await assert.rejects(store.list('/model'), hasCode('SRV_REMOTE_UNAVAILABLE'));
  });

  it('is not there', async () => {
    const gone = await serveFiles(directory);
    await gone.close();
    const other = new HttpStore(gone.address);
    await assert.rejects(other.stampOf('/done'), (error) => {
      hasCode('SRV_REMOTE_UNAVAILABLE')(error);
      return /ECONNREFUSED/.test((error as Error).message);
    });
    await other.close();
  });

  it('sends from one address to the next for ever, or to another protocol', async () => {
    server.override = (request, response) => {
      response.writeHead(302, { location: request.url === '/file' ? 'file:///etc/passwd' : '/again' }).end();
      return true;
    };
    await assert.rejects(store.stampOf('/loop'), /more than 5 redirects/);
    await assert.rejects(store.stampOf('/file'), /expected a redirect to http or https/);
  });

  it('asks who it is; what was signed in with goes to no other origin', async () => {
    const other = await serveFiles(directory);
    const asked: (string | undefined)[] = [];
    other.override = (request, response) => {
      asked.push(request.headers.authorization);
      response.end('x');
      return true;
    };
    server.override = (request, response) => {
      asked.push(request.headers.authorization);
      response.writeHead(302, { location: `${other.address}/x` }).end();
      return true;
    };
    const signedIn = new HttpStore(server.address.replace('//', '//user:p%40ss@'));
    assert.ok(await signedIn.stampOf('/x'));
    assert.deepEqual(asked, [`Basic ${Buffer.from('user:p@ss').toString('base64')}`, undefined]);
    assert.doesNotMatch(signedIn.label, /p%40ss|p@ss/);
    await signedIn.close();
    await other.close();
  });

  it('has a signature in its query, which goes with every request and into no message', async () => {
    const asked: (string | undefined)[] = [];
    server.override = (request, response) => {
      asked.push(request.url);
      response.writeHead(500).end();
      return true;
    };
    const signed = new HttpStore(`${server.address}/bucket?sig=secret`);
    await assert.rejects(signed.stampOf('/done'), (error) => !(error as Error).message.includes('secret'));
    assert.deepEqual(asked, ['/bucket/done?sig=secret']);
    await signed.close();
  });

  it('lists names that lead out of the directory', async () => {
    mkdirSync(join(directory, 'evil'));
    server.override = (request, response) => {
      if (request.url !== '/evil/') return false;
      response.writeHead(200, { 'content-type': 'text/html' }).end('<a href="..%2f..%2fetc">x</a>');
      return true;
    };
    await assert.rejects(fetch('/evil'), hasCode('SRV_REMOTE_DAMAGED'));
    assert.deepEqual(contentOf(target), {});
  });
});

describe('pages that list directories', () => {
  const base = new URL('http://host/models/ctr/');
  const names = (html: string): unknown =>
    parseHtmlListing(html, base).map(({ name, isDirectory }) => `${name}${isDirectory ? '/' : ''}`);

  it('are read as nginx writes them', () => {
    const html = `<html><head><title>Index of /models/ctr/</title></head><body>
<h1>Index of /models/ctr/</h1><hr><pre><a href="../">../</a>
<a href="1/">1/</a>                                                 25-Nov-2026 06:38                   -
<a href="model%20a.onnx">model a.onnx</a>                           25-Nov-2026 06:38               12345
</pre><hr></body></html>`;
    assert.deepEqual(names(html), ['1/', 'model a.onnx']);
  });

  it('are read as Apache writes them', () => {
    const html = `<table><tr><th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th></tr>
<tr><td><a href="/models/">Parent Directory</a></td></tr>
<tr><td valign="top"><img src="/icons/folder.gif" alt="[DIR]"></td><td><a href="1/">1/</a></td></tr>
<tr><td><a class='x' href='a&amp;b.onnx'>a&amp;b.onnx</a></td></tr></table>`;
    assert.deepEqual(names(html), ['1/', 'a&b.onnx']);
  });

  it('are read with addresses that are absolute or begin with a dot, and without those of other places', () => {
    const html =
      '<a href="./x">x</a><a href="/models/ctr/y">y</a><a href="http://host/models/ctr/z/">z</a>' +
      '<a href="http://other/models/ctr/a">a</a><a href="/models/b">b</a><a href="mailto:c@d">c</a><a href="e/f">f</a><a href="#g">g</a><a href="http://[">h</a>';
    assert.deepEqual(names(html), ['x', 'y', 'z/']);
  });

  it("are read as nginx's JSON", () => {
    const json = '[{"name":"1","type":"directory","mtime":"x"},{"name":"m.onnx","type":"file","size":5}]';
    assert.deepEqual(parseJsonListing(json), [
      { name: '1', isDirectory: true },
      { name: 'm.onnx', isDirectory: false, bytes: 5 },
    ]);
    for (const other of ['{}', '[1]', '[{"name":"x","type":"socket"}]', 'no']) {
      assert.equal(parseJsonListing(other), undefined, other);
    }
  });
});
