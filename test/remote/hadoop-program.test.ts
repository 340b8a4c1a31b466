import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { HadoopTarget } from '../../src/publish/hadoop-target.js';
import { textUpload } from '../../src/publish/publish-target.js';
import { type HadoopOptions, HadoopProgram } from '../../src/remote/hadoop-program.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';

const root = makeDirectory('hadoop');
after(() => removeDirectory(root));

let made = 0;

/** A program of its own, which the real one is too slow and too well behaved for. */
function programOf(script: string, options: Partial<HadoopOptions> = {}): HadoopOptions {
  const bin = join(root, `hadoop-${++made}`);
  writeFileSync(bin, `#!/bin/sh\n${script}\n`);
  chmodSync(bin, 0o700);
  return { bin, fsName: '', fsUgi: '', ...options };
}

test('a file that is missing is told from a program that lacks one of its own', async () => {
  const run = (complaint: string, code: number) =>
    new HadoopProgram(programOf(`echo "${complaint}" >&2; exit ${code}`)).run(['-cat', '/x'], '/x', {
      mayMiss: true,
    });
  assert.equal(await run("cat: \\`/x': No such file or directory", 1), undefined);
  await assert.rejects(run('hdfs: line 300: /opt/jdk8/bin/java: No such file or directory', 127), {
    code: 'SRV_REMOTE_UNAVAILABLE',
    message: /ended with 127: .*java/,
  });
});

test('settings that it repeats are masked', async () => {
  const options = { fsName: 'hdfs://me:hush@name:8020', fsUgi: 'me,topsecret' };
  const program = new HadoopProgram(programOf('tr -d "\\n" < "$3" >&2; exit 1', options));
  await assert.rejects(program.run(['-cat', '/x'], '/x', {}), (error: Error) => {
    assert.match(error.message, /\*\*\*/);
    assert.doesNotMatch(error.message, /topsecret|hush/);
    return true;
  });
  program.close();
});

test('what a script started ends with an abort, though the script has ended', async () => {
  const controller = new AbortController();
  const program = new HadoopProgram(programOf('sleep 600 & echo started'));
  const run = program.run(['-cat', '/x'], '/x', { signal: controller.signal });
  const outcome = assert.rejects(run, { code: 'SRV_CANCELLED' });
  setTimeout(() => controller.abort(), 300);
  await outcome;
});

test('closing it ends what runs, and nothing more is begun', async () => {
  const program = new HadoopProgram(programOf('exec sleep 600'));
  const outcome = assert.rejects(program.run(['-cat', '/x'], '/x', {}), { code: 'SRV_REMOTE_UNAVAILABLE' });
  program.close();
  await outcome;
  await assert.rejects(program.run(['-cat', '/x'], '/x', {}), { code: 'SRV_CANCELLED' });
});

test('a file that cannot be replaced stays', async () => {
  const place = join(root, `files-${++made}`);
  // The second -mv, which is to give the new file its name, fails.
  const script = `
place=${place}; mkdir -p $place; shift
case $1 in
  -put) cat > "$place/$3";;
  -mv) n=$(cat $place/.count 2>/dev/null || echo 0); n=$((n+1)); echo $n > $place/.count
    [ -e "$place/$2" ] || { echo "mv: \\\`$2': No such file or directory" >&2; exit 1; }
    [ $n = 2 ] && { echo "mv: the name node is in safe mode" >&2; exit 1; }
    mv "$place/$2" "$place/$3";;
  -cat) cat "$place/$2";;
  -rm) shift 4; rm -rf "$place/$1";;
esac`;
  const target = new HadoopTarget(programOf(script));
  await target.read('/none').catch(() => undefined);
  writeFileSync(join(place, 'file'), 'old');
  await assert.rejects(target.write('/file', textUpload('new')), { message: /safe mode/ });
  assert.equal((await target.read('/file'))?.toString(), 'old');
  await target.write('/file', textUpload('new'));
  assert.equal((await target.read('/file'))?.toString(), 'new');
  await target.close();
});
