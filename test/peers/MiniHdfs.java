import java.io.File;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileUtil;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/** A name node and a data node of Hadoop in one process, on free ports of this machine, until standard input ends. */
public class MiniHdfs {
  public static void main(String[] args) throws Exception {
    File base = new File(args[0]);
    Configuration configuration = new Configuration();
    configuration.set(MiniDFSCluster.HDFS_MINIDFS_BASEDIR, base.getAbsolutePath());
    configuration.setBoolean("dfs.permissions.enabled", true);
    // Redirects name the data node by this: the name of the machine may not be known to itself.
    configuration.set("dfs.datanode.hostname", "localhost");
    MiniDFSCluster cluster = new MiniDFSCluster.Builder(configuration).numDataNodes(1).build();
    try {
      cluster.waitActive();
      System.out.println("READY " + cluster.getNameNodePort() + " " + cluster.getHttpUri(0).substring("http://".length()));
      System.out.flush();
      while (System.in.read() >= 0) {
        // Whoever started it closes the stream, or ends.
      }
    } finally {
      cluster.shutdown();
      FileUtil.fullyDelete(base);
    }
    System.exit(0);
  }
}
