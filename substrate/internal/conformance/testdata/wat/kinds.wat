;; Asks an HTTP event what only others have an answer to, and for a response that
;; has not come. It answers with the errnos.
(module
  (import "taubyte/sdk" "getMessageDataSize" (func $message (param i32 i32) (result i32)))
  (import "taubyte/sdk" "getP2PEventDataSize" (func $command (param i32 i32) (result i32)))
  (import "taubyte/sdk" "getTimerEventScheduled" (func $due (param i32 i32) (result i32)))
  (import "taubyte/sdk" "newHttpClient" (func $client (param i32) (result i32)))
  (import "taubyte/sdk" "newHttpRequest" (func $request (param i32 i32) (result i32)))
  (import "taubyte/sdk" "readHttpResponseBody" (func $read (param i32 i32 i32 i32 i32) (result i32)))
  (import "taubyte/sdk" "eventHttpWrite" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "handle") (param $e i32) (result i32)
    (i32.store8 (i32.const 0) (call $message (local.get $e) (i32.const 64)))
    (i32.store8 (i32.const 1) (call $command (local.get $e) (i32.const 64)))
    (i32.store8 (i32.const 2) (call $due (local.get $e) (i32.const 64)))
    (drop (call $client (i32.const 16)))
    (drop (call $request (i32.load (i32.const 16)) (i32.const 20)))
    (i32.store8 (i32.const 3) (call $read (i32.load (i32.const 16)) (i32.load (i32.const 20)) (i32.const 64) (i32.const 8) (i32.const 72)))
    (call $write (local.get $e) (i32.const 0) (i32.const 4) (i32.const 8))))
