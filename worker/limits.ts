/** Placeholder of the folder until its first part lands. */
export const HOST = "worker";
