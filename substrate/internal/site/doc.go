// Package site serves the files of a website from a tree of content-addressed
// files: nothing is unpacked, and large files are streamed.
//
// # Which file
//
// A path names a file; a path that ends with a slash, the index.html in that
// folder; a path without its slash is redirected to the folder. /about finds
// about.html. What is not there is answered with the site's 404.html, and by a site
// without one, which is taken for an application of one page, with its index.html,
// but only to a browser that goes to a page: a missing script or picture is a 404
// and never a page of HTML.
//
// # Caching
//
// A file's ETag is its CID, so that it stays the same through deployments that do
// not change it. A name with a hash of the content in it (main.3f2a9c01.js) may be
// kept for ever; everything else is asked for again, which costs a 304.
//
// Where a file has siblings .br, .zst or .gz, a user that accepts the encoding
// gets the sibling. Nothing is compressed on the way.
package site
