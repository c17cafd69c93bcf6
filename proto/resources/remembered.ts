/**
 * Documents in which nothing was found wrong, by their text: of a policy of hundreds of documents mostly one has changed since it was read
 * last, and reading the others again is what a change would cost.
 */
import type { Resource } from "./kinds.ts";

/** What a document without a flaw holds. */
export interface SoundResource {
  readonly resource: Resource;
  /** Its namespace and name, as they may be shown. */
  readonly name: string;
}

/** A memory of documents. */
export interface RememberedDocuments {
  /** What a document holds; undefined if it is not remembered. */
  find(text: string): readonly SoundResource[] | undefined;
  keep(text: string, resources: readonly SoundResource[]): void;
}

/** Documents at most, whatever they weigh: as many as control keeps resources. */
const documentsMax = 20_000;

/** Remembers documents of so many characters together, those that were met last. */
export function rememberDocuments(charactersMax: number): RememberedDocuments {
  // Two generations: the older one is forgotten whole when the younger has half of what there may be.
  let young = new Map<string, readonly SoundResource[]>();
  let old = new Map<string, readonly SoundResource[]>();
  let characters = 0;

  function add(text: string, resources: readonly SoundResource[]): void {
    young.set(text, resources);
    characters += text.length;
    if (characters * 2 < charactersMax && young.size * 2 < documentsMax) return;
    old = young;
    young = new Map();
    characters = 0;
  }

  return {
    find(text) {
      const found = young.get(text);
      if (found !== undefined) return found;
      const older = old.get(text);
      if (older === undefined) return undefined;
      old.delete(text);
      const own = ownText(text);
      if (own !== undefined) add(own, older);
      return older;
    },
    keep(text, resources) {
      const own = ownText(text);
      if (own !== undefined && own.length <= charactersMax / 4) add(own, resources);
    },
  };
}

/** The text without what it was cut from, which it would keep in memory; undefined for a text that is not Unicode and so has no bytes. */
function ownText(text: string): string | undefined {
  return text.isWellFormed() ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(new TextEncoder().encode(text)) : undefined;
}

/**
 * Cuts a text into its documents, each beginning where its line with `---` does; undefined if that cannot be told by looking at line
 * beginnings alone. A line that begins so begins a document whatever it stands in (YAML 1.2.2, rule c-forbidden), unless directives or an
 * explicit end of a document are about.
 */
export function cutDocuments(text: string): readonly { readonly text: string; readonly linesBefore: number }[] | undefined {
  if (/^[%\ufeff]|\n(?:%|\.\.\.)|\r(?!\n)/.test(text)) return undefined;
  const documents: { text: string; linesBefore: number }[] = [];
  let from = 0;
  let lines = 0;
  let linesBefore = 0;
  for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", end + 1)) {
    lines += 1;
    if (!text.startsWith("---", end + 1) || !/^[ \t\r\n]?$/.test(text.charAt(end + 4))) continue;
    documents.push({ text: text.slice(from, end + 1), linesBefore });
    from = end + 1;
    linesBefore = lines;
  }
  documents.push({ text: text.slice(from), linesBefore });
  return documents;
}
