/** Return is a value, or why there is none: err is "" where there is one. */
export class Return<T> {
  err: string;

  constructor(private value: T, err: string | null) {
    this.err = err == null ? "" : err;
  }

  /** unwrap is the value. It throws where there is none. */
  unwrap(): T {
    if (this.err.length > 0) {
      throw new Error("Unchecked error: " + this.err);
    }
    return this.value;
  }
}
