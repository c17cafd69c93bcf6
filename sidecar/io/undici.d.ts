/** Types for the one file of undici that is loaded on its own; the package types only its front door. */
declare module "undici/lib/dispatcher/pool.js" {
  export { Pool as default } from "undici";
}
