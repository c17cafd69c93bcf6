/** Where a request came from. */
export interface Peer {
  /** The address, or empty for a Unix socket and for calls inside one process. */
  readonly address: string;
  /** The certificate that the peer showed and whose chain leads to one of the listener's client authorities, in DER. */
  certificate(): Uint8Array | undefined;
}
