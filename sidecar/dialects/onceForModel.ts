/**
 * What is found out of a model by its name alone: which rows of a table fit it, and what they come to. A table has dozens of rows with
 * patterns, and nearly all calls ask for few models, so what was found is kept.
 */

/** A function of a model's name that is asked once for each name, or nearly; what it finds must not be changed. */
export function onceForModel<Found>(find: (model: string) => Found): (model: string) => Found {
  const known = new Map<string, Found>();
  return function found(model) {
    const before = known.get(model);
    if (before !== undefined) return before;
    const now = find(model);
    if (model.length > nameUnitsMax) return now;
    if (known.size === modelsMax) known.clear();
    known.set(model, now);
    return now;
  };
}

/** More models than one endpoint is asked for by policy. Behind a route that takes any name callers could name others without end. */
export const modelsMax = 256;
/** As long as a model's name may be by the conversation's own rules. What is kept here stays, so it is not left to the doors alone. */
export const nameUnitsMax = 512;
