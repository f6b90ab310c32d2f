// Package secrets is a replicated store whose replicas' disks show no secret.
//
// A secret has a name, versions and readers. Its value is sealed (XChaCha20-Poly1305)
// under the key of a generation, and with its name, version and readers, so that a value
// that was moved or altered does not open. The key of a generation is sealed (age, X25519)
// to the key of each node of role auth. So a node that joins costs one small envelope for
// each generation, however many secrets there are.
//
// # Generations
//
// When a node that holds the key leaves, is revoked or lost its key, the nodes that remain
// make a new generation, to which the one that left is no recipient, and seal every value
// anew. The same happens on demand and after RotateAfter. What a node that left has read
// it may remember: change the secrets themselves as well.
//
// # Replicated keys
//
//	/recipients/<peer>                                     the public key of an auth node
//	/secrets/generations/<number>/<id>                     a generation; the id is a digest of its key
//	/secrets/wraps/<generation>/<recipient>/<by>           its key, sealed to a recipient
//	/secrets/values/<name>/<number>/<id>/<generation>/<by> a version of a secret
//	/secrets/deleted/<name>/<number>/<by>                  versions up to the number are deleted
//
// Numbers have 16 digits, names are escaped. Two nodes never write one key.
package secrets
