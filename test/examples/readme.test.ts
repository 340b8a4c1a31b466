/** What the README has to be pasted, beside the curl that `test/docs.test.ts` sends. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { prepareTable } from '../../examples/ctr/sample-table.js';
import { packageRoot } from '../support/server-process.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';

const directory = makeDirectory('readme');
after(() => removeDirectory(directory));
before(() => prepareTable());

const readme = readFileSync(join(packageRoot, 'README.md'), 'utf8');

/** The code of a language in the README, block by block. */
function blocks(language: string): string[] {
  return [...readme.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 'gs'))].map(([, code]) => code!);
}

/** Runs a program in the package's root, and gives what it printed; fails when it does not end with 0. */
async function outputOf(command: string, args: readonly string[], input = ''): Promise<string> {
  const child = spawn(command, args, {
    cwd: packageRoot,
    env: { ...process.env, XDG_CACHE_HOME: directory },
    stdio: 'pipe',
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (part: Buffer) => {
    out += part;
  });
  child.stderr.on('data', (part: Buffer) => {
    err += part;
  });
  child.stdin.end(input);
  const code = await new Promise((resolve) => child.once('close', resolve));
  assert.equal(code, 0, `${command} ${args.join(' ')}\n${out}${err}`);
  return out;
}

describe('the README', () => {
  for (const program of blocks('js')) {
    const [first] = /await open\w+/.exec(program)!;
    test(`has a program (${first}) that prints what its comments say`, async () => {
      const promised = [...program.matchAll(/console\.log\(.*\); \/\/ (.*)/g)].map(([, text]) => text!);
      assert.ok(promised.length > 0);
      const out = await outputOf(process.execPath, ['--input-type=module'], program);
      assert.deepEqual(out.trimEnd().split('\n'), promised);
    });
  }

  test('has commands of tables that run as they stand, and a split of the whole model', async () => {
    const commands = blocks('sh').filter((block) => /onnx-serving\.js (table|model split) /.test(block));
    assert.equal(commands.length, 2);
    // Not in /tmp, where others may be at the same.
    const [tables, split] = commands.map((block) => block.replaceAll('/tmp/', `${directory}/`));
    const looked = await outputOf('sh', ['-ec', tables!]);
    assert.match(looked, /^8:1 2$/m);
    assert.match(looked, /^rows +1000001 of f32 x 16$/m);
    assert.match(await outputOf('sh', ['-ec', split!]), /^ +stage +ids -> tables\/table -> embeddings$/m);
  });

  test('has the commands of the sample that package.json has', () => {
    const { scripts } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    const named = blocks('sh').flatMap((block) =>
      [...block.matchAll(/npm (?:run )?(\w+)/g)].map(([, name]) => name!),
    );
    const own = named.filter((name) => !['install', 'rebuild'].includes(name));
    assert.deepEqual(own, ['start', 'demo', 'test']);
    for (const name of own) assert.ok(scripts[name], name);
  });
});
