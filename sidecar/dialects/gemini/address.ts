/**
 * Where a model is asked: the same methods stand below `models/` at AI Studio, and below a project and a location at Vertex AI
 * (https://cloud.google.com/vertex-ai/docs/reference/rest).
 */

/** A project of Google Cloud and where it runs its models. */
export interface GeminiProject {
  readonly project: string;
  /** A region such as `europe-west4`, `eu` or `us` for several regions, or `global`. */
  readonly location: string;
}

/** Scheme and host of Vertex AI at a location. */
export function projectOrigin(location: string): string {
  if (location === "global") return "https://aiplatform.googleapis.com";
  // What spans several regions has names of another form.
  if (location === "eu" || location === "us") return `https://aiplatform.${location}.rep.googleapis.com`;
  return `https://${location}-aiplatform.googleapis.com`;
}

/**
 * Makes the path below which a model's methods stand. A name alone is one of Google's own models; `tunedModels/…` at AI Studio and
 * `endpoints/…` at Vertex AI are models of the customer's. Whatever else a name holds is encoded, so that it names nothing but a model.
 */
export function modelPaths(version: string, project: GeminiProject | undefined): (model: string) => string {
  const base = project === undefined ? `/${version}` : `/${version}/projects/${encoded(project.project)}/locations/${project.location}`;
  const home = project === undefined ? "models" : "publishers/google/models";
  const others = project === undefined ? ["models/", "tunedModels/"] : [`${home}/`, "endpoints/"];
  return function modelPath(model) {
    const prefix = others.find((other) => model.startsWith(other));
    if (prefix !== undefined) return `${base}/${prefix}${encoded(model.slice(prefix.length))}`;
    return `${base}/${home}/${encoded(model)}`;
  };
}

/** The colon of a project that belongs to a domain stays readable; it means nothing in a path. */
function encoded(segment: string): string {
  return encodeURIComponent(segment).replaceAll("%3A", ":");
}
