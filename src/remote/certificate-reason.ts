/** Why a server's TLS certificate was refused, and what helps against it. */
import { messageOf } from '../errors.js';

/** Node's codes for a chain that ends at nobody who is trusted. */
const untrustedCodes: ReadonlySet<string> = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** A text for messages; undefined where the error is not about a certificate. */
export function certificateReason(error: unknown): string | undefined {
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? '';
  const said = messageOf(error);
  if (untrustedCodes.has(code)) {
    return (
      `its certificate is not trusted: ${said}; where it is of an authority of your own, start this process with ` +
      'NODE_EXTRA_CA_CERTS=FILE, a file of the certificates (PEM) that it may trust as well'
    );
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return `its certificate is for another host: ${said.replace(/\.$/, '')}; expected an address with a name that it is for`;
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    return `its certificate is not valid now: ${said}; it must be renewed there, unless this machine's clock is wrong`;
  }
  return undefined;
}
