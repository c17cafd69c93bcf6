/** What the generator asks of a connection, whichever HTTP is spoken on it. */

/** One request and what becomes of it. */
export interface Exchange {
  /** The request: for HTTP/1.1 head and body; for HTTP/2 the body alone. */
  readonly request: Buffer;
  /** The status of the answer, once known; HTTP/2 callers leave it 0, see `http2.ts`. */
  status: number;
  /** Takes in payload; the bytes are overwritten once this returns. */
  payload(bytes: Buffer, start: number, end: number, atUs: number): void;
  /** The answer is whole, or `failure` says why it will not be. Called once. */
  done(atUs: number, failure: string | undefined, caller: Caller): void;
}

/** A connection to the subject. */
export interface Caller {
  /** Exchanges that it can carry at once. */
  readonly capacity: number;
  /** Exchanges that it carries now. */
  readonly active: number;
  /** Whether it can carry no more. */
  readonly closed: boolean;
  send(exchange: Exchange): void;
  /** Writes what `send` has gathered. */
  flush(): void;
  close(): void;
}
