/** Why a credential could not be had, in words that may be logged: never what a server said in its own words, since it may repeat secrets. */
import { isShowable } from "../../../proto/resources/secrecy.ts";

/** A reason as the end of a sentence, safe to log. */
export class CredentialFailure extends Error {
  constructor(message: string) {
    super(message);
    this.name = "CredentialFailure";
  }
}

/** The reason of a failure, safe to log whatever was thrown. */
export function reasonOf(error: unknown): string {
  return error instanceof CredentialFailure ? error.message : "it failed in a way that should not happen";
}

/** A server's word for what is wrong, as the end of a message: only words that its documentation has, so that no secret can be one. */
export function knownCode(code: unknown): string {
  if (typeof code !== "string" || code === "") return "";
  return codes.has(code) ? ` (${code})` : " (for a reason that is not one of the documented ones, and so is not shown)";
}

/** A name, path or host from the environment or a file, as it may be shown. */
export function nameShown(text: string): string {
  return text.length <= 256 && isShowable(text) && /^[\x20-\x7e]*$/.test(text) ? text : "(not shown)";
}

const codes: ReadonlySet<string> = new Set([
  // OAuth 2.0: RFC 6749, section 5.2; RFC 8693, section 2.2.2; RFC 8707.
  ..."invalid_request invalid_client invalid_grant unauthorized_client unsupported_grant_type invalid_scope invalid_target".split(" "),
  ..."access_denied temporarily_unavailable server_error interaction_required invalid_resource unauthorized_scope".split(" "),
  // google.rpc.Code by name.
  ..."INVALID_ARGUMENT FAILED_PRECONDITION UNAUTHENTICATED PERMISSION_DENIED NOT_FOUND RESOURCE_EXHAUSTED INTERNAL UNAVAILABLE".split(" "),
  // AWS STS (https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html and the pages of the two actions).
  ..."AccessDenied AccessDeniedException ExpiredToken ExpiredTokenException IDPCommunicationError IDPRejectedClaim".split(" "),
  ..."IncompleteSignature InternalFailure InvalidAction InvalidClientTokenId InvalidIdentityToken InvalidParameterValue".split(" "),
  ..."MalformedPolicyDocument MissingAuthenticationToken MissingParameter NotAuthorized OptInRequired PackedPolicyTooLarge".split(" "),
  ..."RegionDisabledException RequestExpired ServiceUnavailable SignatureDoesNotMatch Throttling ThrottlingException".split(" "),
  ..."UnrecognizedClientException ValidationError ResourceNotFoundException InternalServerException".split(" "),
  // Metadata services of machines.
  ..."AssumeRoleUnauthorizedAccess InternalError identity_not_found invalid_identity".split(" "),
]);
