"""Warning mails: composed by the core, owed by the ledger, delivered from here."""
