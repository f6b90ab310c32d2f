package abi

// dns is name resolution. A guest gets no resolver.
var dns = []decl{
	{"dnsNewResolver", "i", fail(ErrResolverNotFound)},
	{"dnsRerouteResolver", "iiiii", fail(ErrResolverNotFound)},
	{"dnsResetResolver", "i", fail(ErrResolverNotFound)},
	{"dnsLookupTxTSize", "iiii", fail(ErrFailedTxTLookup)},
	{"dnsLookupTxT", "iiii", fail(ErrFailedTxTLookup)},
	{"dnsLookupAddressSize", "iiii", fail(ErrFailedAddressLookup)},
	{"dnsLookupAddress", "iiii", fail(ErrFailedAddressLookup)},
	{"dnsLookupCNAMESize", "iiii", fail(ErrFailedCNAMELookup)},
	{"dnsLookupCNAME", "iiii", fail(ErrFailedCNAMELookup)},
	{"dnsLookupMXSize", "iiii", fail(ErrFailedMXLookup)},
	{"dnsLookupMX", "iiii", fail(ErrFailedMXLookup)},
}
