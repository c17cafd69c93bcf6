/** nginx as a plain reverse proxy, set up as its documentation advises for an API behind it: kept-alive connections, nothing buffered. */

/** The configuration: one port for HTTP/1.1 and one for HTTP/2 with prior knowledge, both in front of the provider over HTTP/1.1. */
export function nginxConfig(folder: string, ports: { readonly http1: number; readonly http2: number }, providerPort: number): string {
  return `
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log warn;
worker_rlimit_nofile 20000;
events { worker_connections 19000; }
http {
  # One line a call, as the sidecar writes; buffered, which is nginx's cheaper way.
  access_log ${folder}/access.log combined buffer=32k flush=1s;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  # The longest prompt stays in memory.
  client_body_buffer_size 128k;
  # Connections are never closed for having served many calls, since no other subject does that either.
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  tcp_nodelay on;
  upstream provider {
    server 127.0.0.1:${providerPort};
    keepalive 1024;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${ports.http1} backlog=4096;
    listen 127.0.0.1:${ports.http2} http2 backlog=4096;
    location / {
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      # Events must pass as they come.
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
`;
}
