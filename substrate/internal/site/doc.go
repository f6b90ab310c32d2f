// Package site serves the files of a website from a tree of content-addressed
// files: nothing is unpacked, and large files are streamed.
//
// # Which file
//
// A path names a file; a path that ends with a slash, the index.html in that
// folder; a path without its slash is redirected to the folder. /about finds
// about.html, also beside a folder of that name that has no index.html, and /v1.2
// finds v1.2.html. What is not there is answered with the site's 404.html, and by a site
// without one, which is taken for an application of one page, with its index.html,
// but only to a browser that goes to a page: a missing script or picture is a 404
// and never a page of HTML. %2F in a path is a character of a name and separates
// nothing.
//
// The site's files _redirects and _headers (package siterules) lead requests elsewhere and
// set headers. They are not served, and neither is what has a name that begins with a dot, but
// for what is in the site's .well-known.
//
// A file's type is the one that is registered for its extension; where the name
// tells nothing, its first bytes do.
//
// # Caching
//
// A file's ETag is its CID, so that it stays the same through deployments that do
// not change it. A script, picture or font whose name has a hash of the content in it,
// as builders of web pages make them (main.3f2a9c01.js), may be kept for ever;
// everything else is asked for again, which costs a 304.
//
// Where a file has siblings .br, .zst or .gz, a user that accepts the encoding, and
// does not prefer the file as it is, gets the sibling. What is not among the site's files
// is looked for in a second tree, of encodings that were made when the site was built.
// Those are no files of the site: they have no path, and /app.js.br is not found. An
// encoding has an ETag, a length and ranges of its own. Nothing is compressed on the way.
package site
