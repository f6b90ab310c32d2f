// The package "sdk" of the image taubyte/assembly-script-wasi, as functions import it.
import { Return } from "../return";

// @ts-ignore: decorator
@external("taubyte/sdk", "getEventType")
declare function getEventType(event: u32, type: usize): void;

// @ts-ignore: decorator
@external("taubyte/sdk", "eventHttpWrite")
declare function eventHttpWrite(event: u32, data: usize, size: u32, written: usize): u32;

/** EventType is what a function is called for. */
export class EventType {
  constructor(public value: u32) {}

  toString(): string {
    if (this.isHttp()) return "EventTypeHttp";
    if (this.isPubsub()) return "EventTypePubsub";
    if (this.isP2P()) return "EventTypeP2P";
    return "EventTypeUndefined";
  }

  isHttp(): bool {
    return this.value == 1;
  }

  isPubsub(): bool {
    return this.value == 2;
  }

  isP2P(): bool {
    return this.value == 3;
  }
}

/** Event is what an exported function is called with: a number, and not the address of an object. */
// @ts-ignore: decorator
@unmanaged
export class Event {
  /** eventNum is the number of the event. */
  get eventNum(): u32 {
    return <u32>changetype<usize>(this);
  }

  toString(): string {
    return this.eventNum.toString();
  }

  type(): EventType {
    const type = memory.data(4);
    store<u32>(type, 0);
    getEventType(this.eventNum, type);
    return new EventType(load<u32>(type));
  }

  /** http is the event's request and response, or an error where it is no HTTP event. */
  http(): Return<HttpEvent> {
    return new Return<HttpEvent>(changetype<HttpEvent>(changetype<usize>(this)), this.type().isHttp() ? null : "not an http event");
  }
}

/** HttpEvent is a request and its response. */
// @ts-ignore: decorator
@unmanaged
export class HttpEvent extends Event {
  /** write adds text to the response, and returns how many bytes that were. */
  write(value: string): Return<number> {
    const text = String.UTF8.encode(value);
    const written = memory.data(4);
    store<u32>(written, 0);
    const code = eventHttpWrite(this.eventNum, changetype<usize>(text), <u32>text.byteLength, written);
    if (code != 0) {
      return new Return<number>(0, "write failed with error " + code.toString());
    }
    return new Return<number>(load<u32>(written), null);
  }
}
