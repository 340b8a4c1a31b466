/** What holds for every remote store, as tests that each kind of store runs against a server of its own. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type ErrorCode, ServingError } from '../../src/errors.js';
import type { FetchProgress, RemoteStore } from '../../src/remote/remote-store.js';

/** A store to test, with a way to put files where it finds them. */
export interface StoreUnderTest {
  readonly store: RemoteStore;
  /** The path that the files are put below. */
  readonly base: string;
  /** Writes a file, `a/b` included; one that is there is replaced. */
  put(path: string, content: Uint8Array | string): Promise<void>;
  close(): Promise<void>;
}

/** Whether an error has a code: for `assert.rejects`. */
export function hasCode(code: ErrorCode): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ServingError, `expected a ServingError, got ${String(error)}`);
    assert.equal(error.code, code, error.message);
    return true;
  };
}

/** Files below a directory with their content. */
export function contentOf(directory: string): Record<string, string> {
  const files: Record<string, string> = {};
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    const path = join(directory, name);
    if (statSync(path).isFile()) files[name] = readFileSync(path, 'latin1');
  }
  return files;
}

/** @param name what the store is called in titles */
export function storeContract(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(name, () => {
    let tested: StoreUnderTest;
    let here: string;
    let base: string;
    before(async () => {
      here = mkdtempSync(join(tmpdir(), 'onnx-serving-store-'));
      tested = await open();
      base = tested.base;
      await tested.put('model/model.onnx', 'first');
      await tested.put('model/1/a name with blanks & signs.bin', 'second');
      await tested.put('model/1/b.bin', '');
      await tested.put('single.tar', 'third');
    });
    after(async () => {
      await tested.store.close();
      await tested.close();
      rmSync(here, { recursive: true, force: true });
    });

    it('fetches a directory with all that is below it', async () => {
      const target = join(here, 'model');
      const progress: FetchProgress[] = [];
      const fetched = await tested.store.fetch(`${base}/model`, target, {
        onProgress: (now) => progress.push(now),
      });
      assert.deepEqual(contentOf(target), {
        'model.onnx': 'first',
        '1/a name with blanks & signs.bin': 'second',
        '1/b.bin': '',
      });
      assert.deepEqual(fetched, { kind: 'directory', files: 3, bytes: 11 });
      assert.equal(progress.at(-1)?.bytes, 11);
    });

    it('fetches a file, byte by byte', async () => {
      const content = randomBytes(3_000_001);
      await tested.put('large.bin', content);
      const target = join(here, 'large.bin');
      const fetched = await tested.store.fetch(`${base}/large.bin`, target);
      assert.deepEqual(fetched, { kind: 'file', files: 1, bytes: content.length });
      assert.ok(content.equals(readFileSync(target)));
    });

    it('lists a directory, and nothing where there is none', async () => {
      const names = (entries: Awaited<ReturnType<RemoteStore['list']>>): unknown =>
        entries?.map(({ name: one, isDirectory }) => [one, isDirectory]).toSorted();
      assert.deepEqual(names(await tested.store.list(`${base}/model`)), [
        ['1', true],
        ['model.onnx', false],
      ]);
      assert.equal(await tested.store.list(`${base}/model/model.onnx`), undefined);
      assert.equal(await tested.store.list(`${base}/nothing`), undefined);
    });

    it('gives a file the same stamp until it is replaced', async () => {
      await tested.put('done', 'one');
      const first = await tested.store.stampOf(`${base}/done`);
      assert.ok(first);
      assert.deepEqual(await tested.store.stampOf(`${base}/done`), first);
      await tested.put('done', 'two, longer');
      const second = await tested.store.stampOf(`${base}/done`);
      assert.notDeepEqual(second, first);
      assert.ok(second);
    });

    it('gives a directory another stamp when a file far below it is replaced', async () => {
      await tested.put('tree/1/deep/file', 'one');
      const first = await tested.store.stampOf(`${base}/tree`);
      assert.ok(first);
      assert.deepEqual(await tested.store.stampOf(`${base}/tree`), first);
      await tested.put('tree/1/deep/file', 'two, longer');
      assert.notDeepEqual(await tested.store.stampOf(`${base}/tree`), first);
    });

    it('has no stamp for what is not there', async () => {
      assert.equal(await tested.store.stampOf(`${base}/nothing`), undefined);
      assert.equal(await tested.store.stampOf(`${base}/nothing/below`), undefined);
    });

    it('says that there is nothing to fetch, and names the path', async () => {
      const fetching = tested.store.fetch(`${base}/nothing`, join(here, 'nothing'));
      await assert.rejects(fetching, (error) => {
        hasCode('SRV_REMOTE_NOT_FOUND')(error);
        return (error as Error).message.includes(`${base}/nothing`);
      });
    });

    it('refuses more files or bytes than the limits allow', async () => {
      const fetch = (target: string, limits: { maxFiles: number; maxBytes: number }): Promise<unknown> =>
        tested.store.fetch(`${base}/model`, join(here, target), { limits });
      await assert.rejects(fetch('many', { maxFiles: 2, maxBytes: 100 }), hasCode('SRV_REMOTE_TOO_LARGE'));
      await assert.rejects(fetch('big', { maxFiles: 9, maxBytes: 10 }), hasCode('SRV_REMOTE_TOO_LARGE'));
      // It can be used afterwards.
      assert.ok(await tested.store.stampOf(`${base}/model/model.onnx`));
    });

    it('gives up when it is told to, and can be used afterwards', async () => {
      const signal = AbortSignal.abort();
      await assert.rejects(tested.store.stampOf(`${base}/done`, { signal }), hasCode('SRV_CANCELLED'));
      const fetching = tested.store.fetch(`${base}/single.tar`, join(here, 'aborted'), { signal });
      await assert.rejects(fetching, hasCode('SRV_CANCELLED'));
      assert.ok(await tested.store.stampOf(`${base}/single.tar`));
    });

    it('is closed more than once without harm', async () => {
      await tested.store.close();
      await tested.store.close();
    });
  });
}

/** Writes files into a directory of this machine. */
export function putInto(directory: string): StoreUnderTest['put'] {
  return async (path, content) => {
    const { mkdir, writeFile } = await import('node:fs/promises');
    const file = join(directory, path);
    await mkdir(join(file, '..'), { recursive: true });
    await writeFile(file, content);
  };
}
