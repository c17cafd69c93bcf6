/**
 * The config and credentials files of AWS's tools (https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html): sections in brackets,
 * settings as `name = value`, comments on lines of their own or behind a blank, settings below others indented.
 */

/** Profiles by name. */
export interface Profiles {
  has(name: string): boolean;
  /** The settings of a profile; empty if there is none of that name. */
  settings(name: string): ReadonlyMap<string, string>;
  /** Whether a profile says anything of where keys come from; one may only name a region. */
  givesKeys(name: string): boolean;
}

/** Reads both files. Settings of the credentials file go before those of the config file. Lines that are none are left out. */
export function readProfiles(config: string, credentials: string): Profiles {
  const profiles = new Map<string, Map<string, string>>();
  // In the config file a section for another thing, such as `sso-session work`, is no profile; in the other one each is one.
  readSections(config, (section) => (section === "default" ? section : /^profile\s+(.+)$/.exec(section)?.[1]), profiles);
  readSections(credentials, (section) => section, profiles);
  const settings = (name: string): ReadonlyMap<string, string> => profiles.get(name) ?? noSettings;
  return {
    has: (name) => profiles.has(name),
    settings,
    givesKeys: (name) => sourceSettings.some((setting) => settings(name).has(setting)),
  };
}

const noSettings: ReadonlyMap<string, string> = new Map();

const sourceSettings = ["aws_access_key_id", "role_arn", "credential_process", "sso_session", "sso_start_url", "login_session"] as const;

function readSections(text: string, nameOf: (section: string) => string | undefined, into: Map<string, Map<string, string>>): void {
  let current: Map<string, string> | undefined;
  for (const line of text.split(/\r?\n/)) {
    // What is indented belongs to the setting above; none of those matters here.
    if (line.trim() === "" || /^[#;]/.test(line) || /^\s/.test(line)) continue;
    const close = line.indexOf("]");
    if (line.startsWith("[") && close !== -1) {
      const name = nameOf(line.slice(1, close).trim())?.replace(/^(["'])(.*)\1$/, "$2");
      current = name === undefined ? undefined : (into.get(name) ?? new Map());
      if (name !== undefined && current !== undefined) into.set(name, current);
      continue;
    }
    const at = line.indexOf("=");
    if (at === -1 || current === undefined) continue;
    const value = line
      .slice(at + 1)
      .replace(/\s[#;].*$/, "")
      .trim();
    if (value !== "") current.set(line.slice(0, at).trim().toLowerCase(), value);
  }
}
