import { spawn } from 'node:child_process';
import { program } from './paths.js';

/**
 * Runs a program of this folder to its end and gives the JSON of its last line.
 *
 * @throws when it fails, takes longer than `timeoutMs`, or its last line is no JSON
 */
export async function runProgram<Result>(
  name: string,
  args: readonly string[],
  timeoutMs: number,
): Promise<Result> {
  const child = spawn(process.execPath, [program(name), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-4000);
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  const code = await new Promise((resolve) =>
    child.once('close', (exitCode, signal) => resolve(exitCode ?? signal)),
  );
  clearTimeout(timer);
  if (code !== 0) throw new Error(`${name} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Result;
}
