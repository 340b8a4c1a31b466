import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { FetchLimits } from '../../src/remote/remote-store.js';
import { archiveFormat, unpackArchive } from '../../src/remote/unpack.js';
import { type TarEntry, tarOf, type ZipEntry, zipOf } from '../support/archives.js';
import { contentOf, hasCode } from '../support/store-contract.js';

let directory: string;
let made = 0;
before(() => {
  directory = mkdtempSync(join(tmpdir(), 'onnx-serving-unpack-'));
});
after(() => rmSync(directory, { recursive: true, force: true }));

async function unpack(archive: Buffer | string, limits?: FetchLimits): Promise<Record<string, string>> {
  const file = typeof archive === 'string' ? archive : join(directory, `archive-${made++}`);
  if (typeof archive !== 'string') writeFileSync(file, archive);
  const target = join(directory, `unpacked-${made++}`);
  await unpackArchive(file, target, 'a.tar', limits ? { limits } : {});
  return contentOf(target);
}

const good = { 'm/model.onnx': 'weights', 'm/1/x': '', 'm/big': 'y'.repeat(700_000) };

describe('archives that other programs made', () => {
  before(() => {
    for (const [name, content] of Object.entries(good)) {
      const file = join(directory, 'source', name);
      mkdirSync(join(file, '..'), { recursive: true });
      writeFileSync(file, content);
    }
    const long = join(directory, 'source/m', 'l'.repeat(120));
    mkdirSync(long);
    writeFileSync(join(long, 'f'.repeat(120)), 'long');
  });
  const everything = { ...good, [`m/${'l'.repeat(120)}/${'f'.repeat(120)}`]: 'long' };

  for (const format of ['gnu', 'pax', 'posix']) {
    for (const flag of ['-c', '-cz']) {
      it(`are unpacked: tar --format=${format} ${flag}`, async () => {
        const file = join(directory, `${format}${flag}.tar`);
        execFileSync('tar', [`--format=${format}`, flag, '-f', file, '-C', join(directory, 'source'), './m']);
        assert.equal(await archiveFormat(file), flag === '-c' ? 'tar' : 'tar.gz');
        assert.deepEqual(await unpack(file), everything);
      });
    }
  }

  it("are unpacked: Python's zipfile", async () => {
    const file = join(directory, 'python.zip');
    execFileSync('python3', ['-m', 'zipfile', '-c', file, join(directory, 'source/m')]);
    assert.equal(await archiveFormat(file), 'zip');
    assert.deepEqual(await unpack(file), everything);
  });
});

describe('archives that are refused', () => {
  const tars: readonly (readonly [string, TarEntry, RegExp])[] = [
    ['a name that leads out', { name: 'm/../../evil' }, /"m\/\.\.\/\.\.\/evil" leads out of it/],
    ['an absolute name', { name: '/tmp/evil' }, /expected names relative to it, got "\/tmp\/evil"/],
    ['a name of another system', { name: 'm\\..\\evil' }, /expected names relative to it/],
    ['a drive', { name: 'C:evil' }, /expected names relative to it/],
    ['a symbolic link', { name: 'm/l', type: '2', linkName: '/etc' }, /"m\/l" is a symbolic link/],
    ['a hard link', { name: 'm/l', type: '1', linkName: 'm/a' }, /"m\/l" is a hard link/],
    ['a character device', { name: 'm/d', type: '3' }, /"m\/d" is a device/],
    ['a block device', { name: 'm/d', type: '4' }, /"m\/d" is a device/],
    ['a pipe', { name: 'm/p', type: '6' }, /"m\/p" is a named pipe/],
    ['a name that comes twice', { name: 'm/a', content: 'other' }, /"m\/a" comes twice/],
    ['a file below a file', { name: 'm/a/b', content: 'x' }, /"m\/a\/b" lies below a file/],
  ];
  for (const [what, entry, message] of tars) {
    it(`tar: ${what}`, async () => {
      const archive = tarOf([{ name: 'm/a', content: 'x' }, entry, { name: 'm/z', content: 'z' }]);
      for (const form of [archive, gzipSync(archive)]) {
        await assert.rejects(unpack(form), (error) => {
          hasCode('SRV_BAD_ARCHIVE')(error);
          return message.test((error as Error).message);
        });
      }
      assert.equal(existsSync('/tmp/evil') || existsSync(join(directory, 'evil')), false);
    });
  }

  const zips: readonly (readonly [string, ZipEntry, RegExp])[] = [
    ['a name that leads out', { name: 'm/../../evil' }, /\.\./],
    ['an absolute name', { name: '/tmp/evil' }, /absolute|relative/],
    ['a backslash', { name: 'm\\..\\evil' }, /invalid characters|relative/],
    ['a symbolic link', { name: 'm/l', content: '/etc', mode: 0o120777 }, /"m\/l" is a symbolic link/],
    ['a device', { name: 'm/d', mode: 0o060644 }, /"m\/d" is a device/],
    ['a wrong checksum', { name: 'm/c', content: 'x', crc: 1 }, /does not have the checksum/],
    ['a name that comes twice', { name: 'm/a', content: 'other' }, /"m\/a" comes twice/],
    [
      'more bytes than it says',
      { name: 'm/b', content: 'x'.repeat(1000), size: 10 },
      /too many bytes|expected 10/,
    ],
  ];
  for (const [what, entry, message] of zips) {
    it(`zip: ${what}`, async () => {
      await assert.rejects(unpack(zipOf([{ name: 'm/a', content: 'x' }, entry])), (error) => {
        hasCode('SRV_BAD_ARCHIVE')(error);
        return message.test((error as Error).message);
      });
    });
  }

  it('a bomb: more bytes than allowed, however few are sent', async () => {
    const limits = { maxFiles: 10, maxBytes: 1 << 20 };
    const content = Buffer.alloc(64 << 20);
    const sent = gzipSync(tarOf([{ name: 'm/zeros', content }]));
    assert.ok(sent.length < 1 << 17);
    await assert.rejects(unpack(sent, limits), hasCode('SRV_REMOTE_TOO_LARGE'));
    await assert.rejects(
      unpack(zipOf([{ name: 'm/zeros', content }]), limits),
      hasCode('SRV_REMOTE_TOO_LARGE'),
    );
    // Bytes that belong to no file count too.
    const padded = gzipSync(Buffer.concat([tarOf([{ name: 'm/a', content: 'x' }]), content]));
    await assert.rejects(unpack(padded, limits), hasCode('SRV_REMOTE_TOO_LARGE'));
  });

  it('a bomb: more files or directories than allowed', async () => {
    const limits = { maxFiles: 10, maxBytes: 1 << 20 };
    const files = Array.from({ length: 11 }, (_, index) => ({ name: `m/${index}` }));
    const directories = files.map((entry) => ({ ...entry, type: '5' }));
    await assert.rejects(unpack(tarOf(files), limits), hasCode('SRV_REMOTE_TOO_LARGE'));
    await assert.rejects(unpack(tarOf(directories), limits), hasCode('SRV_REMOTE_TOO_LARGE'));
    await assert.rejects(unpack(zipOf(files), limits), hasCode('SRV_REMOTE_TOO_LARGE'));
  });

  it('a half, wherever it was cut', async () => {
    const whole = tarOf([
      { name: 'm/a', content: 'x'.repeat(2000) },
      { name: 'm/b', content: 'y'.repeat(2000) },
    ]);
    for (const bytes of [600, 512 + 2048, 512 + 2048 + 512, 512 + 2048 + 600, whole.length - 1024]) {
      await assert.rejects(unpack(whole.subarray(0, bytes)), hasCode('SRV_BAD_ARCHIVE'), String(bytes));
    }
    const packed = gzipSync(whole);
    await assert.rejects(unpack(packed.subarray(0, packed.length - 9)), hasCode('SRV_BAD_ARCHIVE'));
    const zip = zipOf([{ name: 'm/a', content: 'x'.repeat(2000) }]);
    await assert.rejects(unpack(zip.subarray(0, zip.length - 9)), hasCode('SRV_BAD_ARCHIVE'));
  });

  it('what is none', async () => {
    for (const content of ['', 'text', 'x'.repeat(4096)]) {
      await assert.rejects(unpack(Buffer.from(content)), /expected tar, tar\.gz or zip, got something else/);
    }
    await assert.rejects(unpack(gzipSync('x'.repeat(4096))), hasCode('SRV_BAD_ARCHIVE'));
  });
});
