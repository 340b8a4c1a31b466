/** An S3 server of others (moto) that checks every signature, with a bucket and credentials for it. */
import { type Peer, startPythonPeer } from './python-peers.js';

/** A running S3 server. */
export interface S3Server extends Peer {
  readonly endpoint: string;
  /** The variables that lead to it. */
  readonly env: Readonly<Record<string, string>>;
}

/** Starts one with the bucket `models`. */
export async function startS3Server(): Promise<S3Server> {
  // The calls that make the user, its key, its rights and the bucket come before there is anybody who could sign them.
  const peer = await startPythonPeer((port) => ['-m', 'moto.server', '-H', '127.0.0.1', '-p', String(port)], {
    INITIAL_NO_AUTH_ACTION_COUNT: '4',
  });
  const endpoint = `http://127.0.0.1:${peer.port}`;
  const iam = async (query: Record<string, string>): Promise<string> => {
    const reply = await fetch(endpoint, {
      method: 'POST',
      headers: {
        authorization:
          'AWS4-HMAC-SHA256 Credential=none/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=none',
      },
      body: new URLSearchParams({ Version: '2010-05-08', ...query }),
    });
    const text = await reply.text();
    if (!reply.ok) throw new Error(`${query.Action}: ${reply.status} ${text}`);
    return text;
  };
  await iam({ Action: 'CreateUser', UserName: 'tester' });
  const keys = await iam({ Action: 'CreateAccessKey', UserName: 'tester' });
  await iam({
    Action: 'PutUserPolicy',
    UserName: 'tester',
    PolicyName: 'all',
    PolicyDocument: JSON.stringify({
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Action: 's3:*', Resource: '*' }],
    }),
  });
  const made = await fetch(`${endpoint}/models`, { method: 'PUT' });
  if (!made.ok) throw new Error(`the bucket: ${made.status} ${await made.text()}`);
  const textOf = (name: string): string => new RegExp(`<${name}>([^<]+)`).exec(keys)?.[1] ?? '';
  return {
    ...peer,
    endpoint,
    env: {
      AWS_ACCESS_KEY_ID: textOf('AccessKeyId'),
      AWS_SECRET_ACCESS_KEY: textOf('SecretAccessKey'),
      AWS_ENDPOINT_URL_S3: endpoint,
    },
  };
}
