/** Envoy as a plain reverse proxy, as its documentation sets up an edge for one upstream: no filter but the router, one access log line. */

/** The configuration: one port for HTTP/1.1 and one for HTTP/2 with prior knowledge, both in front of the provider over HTTP/1.1. */
export function envoyConfig(log: string, ports: { readonly http1: number; readonly http2: number }, providerPort: number): string {
  const typed = (name: string, fields: object) => ({ "@type": `type.googleapis.com/envoy.${name}`, ...fields });
  const listener = (name: string, port: number, codec: string) => ({
    name,
    address: socketAddress(port),
    filter_chains: [
      {
        filters: [
          {
            name: "envoy.filters.network.http_connection_manager",
            typed_config: typed("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", {
              stat_prefix: name,
              codec_type: codec,
              access_log: [
                {
                  name: "envoy.access_loggers.file",
                  typed_config: typed("extensions.access_loggers.file.v3.FileAccessLog", { path: log }),
                },
              ],
              // Streams of models pause for as long as models think.
              stream_idle_timeout: "600s",
              route_config: {
                virtual_hosts: [
                  { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "provider", timeout: "0s" } }] },
                ],
              },
              http_filters: [{ name: "envoy.filters.http.router", typed_config: typed("extensions.filters.http.router.v3.Router", {}) }],
            }),
          },
        ],
      },
    ],
  });
  return JSON.stringify({
    static_resources: {
      listeners: [listener("http1", ports.http1, "HTTP1"), listener("http2", ports.http2, "HTTP2")],
      clusters: [
        {
          name: "provider",
          type: "STATIC",
          // The default of 1,024 would refuse the rows with more.
          circuit_breakers: {
            thresholds: [{ max_connections: 20_000, max_pending_requests: 20_000, max_requests: 20_000 }],
          },
          load_assignment: {
            cluster_name: "provider",
            endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(providerPort) } }] }],
          },
        },
      ],
    },
  });
}

function socketAddress(port: number) {
  return { socket_address: { address: "127.0.0.1", port_value: port } };
}
