# 04-poll/chat
# who half-closes gets the rest
# did not read and half-closed while .* and then got only the first
# A client whose end of file has come is closed at once, whatever it is owed.
/^static void client_readable/,/^}/{
    /else if (got == 0 && client->owed)/d
    /client->said_all = true/d
}
