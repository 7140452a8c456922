package io.chronik.kafkasuite;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;

/** The ports of this JVM in turn, so that each cluster has others than the ones before it. */
final class Ports {
    private static int next;

    static synchronized int take() {
        for (int tries = 0; tries < Settings.PORTS.size(); tries++) {
            int port = Settings.PORTS.get(next++ % Settings.PORTS.size());
            try (ServerSocket probe = new ServerSocket()) {
                probe.setReuseAddress(true);
                probe.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
                return port;
            } catch (IOException taken) {
                // The next one, then.
            }
        }
        throw new SuiteError("no free port");
    }

    private Ports() { }
}
