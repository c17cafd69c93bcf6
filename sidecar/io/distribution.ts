/**
 * A histogram that is cheap to add to: prom-client's own finds the series of each value by its labels anew, which takes as long as three
 * filters take for a call.
 */
import type { Histogram, MetricObjectWithValues, MetricType, MetricValueWithName, Registry } from "prom-client";

/** What a histogram is called, and where its buckets end. */
export interface DistributionSettings {
  readonly name: string;
  readonly help: string;
  /** The upper bounds, rising. */
  readonly buckets: readonly number[];
}

/** The values of one label set. */
export class Distribution {
  readonly #bounds: readonly number[];
  /** By bucket, and behind them those beyond the last bound. */
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  /** Adds a value, which is not negative. */
  observe(value: number): void {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket++;
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    this.#sum += value;
  }

  /** The lines of this label set, as Prometheus' format has them: each bucket counts those below it, too. */
  values(name: string, labels: Readonly<Record<string, string>>): MetricValueWithName<string>[] {
    let count = 0;
    const line = (metricName: string, value: number, more: Record<string, string | number> = {}) => ({
      metricName,
      value,
      labels: { ...more, ...labels },
    });
    const buckets = [...this.#counts].map((inBucket, index) => {
      count += inBucket;
      return line(`${name}_bucket`, count, { le: this.#bounds[index] ?? "+Inf" });
    });
    return [...buckets, line(`${name}_sum`, this.#sum), line(`${name}_count`, count)];
  }
}

/** The distributions of one metric by label set. */
export class Distributions {
  readonly #settings: DistributionSettings;
  readonly #series: { readonly labels: Readonly<Record<string, string>>; readonly values: Distribution }[] = [];

  /** Shows itself in the registry from now on. */
  constructor(settings: DistributionSettings, registry: Registry) {
    this.#settings = settings;
    const metric = { name: settings.name, get: async () => this.#shown() };
    // All that a registry asks of a metric is its name and what it shows; its type wants one of prom-client's own classes.
    registry.registerMetric(metric as unknown as Histogram);
  }

  /** Begins a label set, which must be a new one. Keep what is returned and add to it. */
  begin(labels: Readonly<Record<string, string>>): Distribution {
    const values = new Distribution(this.#settings.buckets);
    this.#series.push({ labels, values });
    return values;
  }

  #shown(): Omit<MetricObjectWithValues<MetricValueWithName<string>>, "collect"> {
    const { name, help } = this.#settings;
    // `type` is a const enum of numbers in prom-client's types, and a word in its code.
    const type = "histogram" as unknown as MetricType;
    return { name, help, type, aggregator: "sum", values: this.#series.flatMap(({ labels, values }) => values.values(name, labels)) };
  }
}
