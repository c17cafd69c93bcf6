/** Whether a text shows a secret, or enough of one to matter: ten characters in a row from its middle. */
export function leaks(text: string, secret: string): boolean {
  const middle = secret.slice(Math.floor(secret.length / 2) - 5, Math.floor(secret.length / 2) + 5);
  return text.includes(secret) || text.includes(middle);
}
